"""data_ingest's first tables."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime, create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_messaging_tables(op)  # type: ignore[arg-type]  # the module has the methods of Operations
    op.create_table(
        "pipelines",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", UtcDateTime()),
        sa.Column("next_look_at", UtcDateTime()),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("uri", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("sha256", sa.String()),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.Column("causation_id", sa.String()),
        sa.Column("traceparent", sa.String()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON()),
        sa.Column("pipeline_version", sa.Integer()),
        sa.Column("artifact_uri", sa.String()),
        sa.Column("artifact_digest", sa.String()),
        sa.Column("rows", sa.JSON()),
        sa.Index("datasets_due", "state", "next_look_at"),
        sa.Index("datasets_newest", "created_at", "id"),
    )
