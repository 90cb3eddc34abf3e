"""The evaluator's first tables."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime, create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_messaging_tables(op)  # type: ignore[arg-type]  # the module has the methods of Operations
    _create_knowledge()
    _create_evaluations()


def _create_knowledge() -> None:
    op.create_table(
        "pipeline_rules",
        sa.Column("pipeline", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("rules", sa.JSON(), nullable=False),
    )
    op.create_table(
        "production",
        sa.Column("pipeline", sa.String(), primary_key=True),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("model", sa.JSON()),
        sa.Column("since", UtcDateTime(), nullable=False),
    )


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", UtcDateTime()),
        sa.Column("next_look_at", UtcDateTime()),
        sa.Column("run_id", sa.String(), nullable=False, index=True),
        sa.Column("pipeline", sa.String(), nullable=False, index=True),
        sa.Column("pipeline_version", sa.Integer(), nullable=False),
        sa.Column("run", sa.JSON(), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("production", sa.JSON()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("progress", sa.JSON()),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean()),
        sa.Column("measurements", sa.JSON(), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("report_uri", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.Column("causation_id", sa.String(), nullable=False),
        sa.Column("traceparent", sa.String()),
        sa.Column("created_at", UtcDateTime(), nullable=False, index=True),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("finished_at", UtcDateTime()),
    )
