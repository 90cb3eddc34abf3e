"""Measuring again what is in production: on a schedule, and for drift."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("cause", sa.String(), nullable=False, server_default="run"))
    op.add_column("evaluations", sa.Column("model_version", sa.String()))
    op.create_table(
        "newest_datasets",
        sa.Column("pipeline", sa.String(), primary_key=True),
        sa.Column("dataset", sa.JSON(), nullable=False),
        sa.Column("prepared_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", UtcDateTime()),
        sa.Column("next_look_at", UtcDateTime()),
        sa.Column("pipeline_version", sa.Integer(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
    )
