"""The drift service's first tables."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime, create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    create_messaging_tables(op)  # type: ignore[arg-type]  # the module has the methods of Operations
    _create_knowledge()
    _create_watch()


def _create_knowledge() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(), nullable=False, index=True),
        sa.Column("policy", sa.JSON(), nullable=False),
    )
    op.create_table(
        "model_versions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("dataset", sa.JSON(), nullable=False),
        sa.Column("evaluation_id", sa.String(), nullable=False),
    )
    op.create_table(
        "evaluated",
        sa.Column("evaluation_id", sa.String(), primary_key=True),
        sa.Column("outputs", sa.JSON(), nullable=False),
    )


def _create_watch() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("route", sa.String(), nullable=False, index=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "seen_samples",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(), nullable=False, unique=True),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("route", sa.String(), nullable=False, index=True),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False, index=True),
        sa.Column("fact", sa.JSON(), nullable=False),
    )
