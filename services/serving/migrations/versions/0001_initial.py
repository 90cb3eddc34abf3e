"""The agent's first tables."""

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
        "routes",
        sa.Column("route", sa.String(), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("base_model", sa.String(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=False),
    )
    op.create_table(
        "adapters",
        sa.Column("model_version", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.Column("causation_id", sa.String()),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "server",
        sa.Column("replica", sa.String(), primary_key=True),
        sa.Column("started", sa.String(), nullable=False),
        sa.Column("base_digest", sa.String(), nullable=False),
        sa.Column("ready_at", UtcDateTime(), nullable=False),
    )
