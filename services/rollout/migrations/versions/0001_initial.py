"""The rollout controller's first tables."""

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
    _create_routes()
    _create_rollouts()
    _create_replicas()


def _create_routes() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
    )
    op.create_table(
        "routes",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("base_model", sa.String(), nullable=False),
        sa.Column("base_model_digest", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("stable", sa.JSON()),
        sa.Column("rollout_id", sa.String()),
        sa.Column("candidate", sa.JSON()),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    )


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", UtcDateTime()),
        sa.Column("next_look_at", UtcDateTime()),
        sa.Column("pipeline", sa.String(), nullable=False, index=True),
        sa.Column("route", sa.String(), nullable=False, index=True),
        sa.Column("model_version", sa.String(), nullable=False, unique=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("model", sa.JSON(), nullable=False),
        sa.Column("base_model_digest", sa.String(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("stable", sa.String()),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.Column("causation_id", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, index=True),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
    )
    op.create_table(
        "commands",
        sa.Column("id", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("rollout_id", sa.String(), nullable=False, index=True),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("answered_at", UtcDateTime()),
        sa.Column("refused", sa.Text(), nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("id", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("rollout_id", sa.String(), nullable=False, index=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
    )


def _create_replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("base_model", sa.String(), nullable=False),
        sa.Column("ready_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "adapters",
        sa.Column("replica", sa.String(), primary_key=True),
        sa.Column("model_version", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("permanent", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
    )
