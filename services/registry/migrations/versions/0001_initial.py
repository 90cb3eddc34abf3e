"""The registry's first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime, create_messaging_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _fact_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
    ]


def _create_facts(table: str, *columns: sa.Column[Any], indexed: tuple[str, ...] = ()) -> None:
    op.create_table(table, *_fact_columns(), *columns)
    for column in ("pipeline", "created_at", *indexed):
        op.create_index(f"ix_{table}_{column}", table, [column])


def upgrade() -> None:
    create_messaging_tables(op)  # type: ignore[arg-type]  # the module has the methods of Operations
    _create_pipelines()
    _create_datasets()
    _create_runs()
    _create_evaluations_and_rollouts()
    _create_models()


def _create_pipelines() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.UniqueConstraint("route"),
    )
    op.create_table(
        "pipeline_versions",
        sa.Column("pipeline", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )


def _create_datasets() -> None:
    _create_facts(
        "datasets",
        sa.Column("name", sa.String()),
        sa.Column("pipeline_version", sa.Integer()),
        sa.Column("source_uri", sa.String()),
        sa.Column("source_sha256", sa.String()),
        sa.Column("format", sa.String()),
        sa.Column("artifact_uri", sa.String()),
        sa.Column("artifact_digest", sa.String()),
        sa.Column("rows", sa.JSON()),
        sa.Column("rows_in", sa.Integer()),
        sa.Column("rows_rejected", sa.JSON()),
        indexed=("artifact_digest",),
    )


def _create_runs() -> None:
    _create_facts(
        "runs",
        sa.Column("pipeline_version", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.String()),
        sa.Column("dataset_digest", sa.String()),
        sa.Column("base_model", sa.String()),
        sa.Column("base_model_digest", sa.String()),
        sa.Column("attempt", sa.Integer()),
        sa.Column("job", sa.String()),
        sa.Column("step", sa.Integer()),
        sa.Column("total_steps", sa.Integer()),
        sa.Column("loss", sa.Float()),
        sa.Column("validation_loss", sa.Float()),
        sa.Column("tokens_per_second", sa.Float()),
        sa.Column("eta_seconds", sa.Float()),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("adapter_uri", sa.String()),
        sa.Column("adapter_digest", sa.String()),
        sa.Column("metrics", sa.JSON()),
        indexed=("dataset_id", "dataset_digest"),
    )


def _create_evaluations_and_rollouts() -> None:
    _create_facts(
        "evaluations",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("pipeline_version", sa.Integer()),
        sa.Column("dataset_id", sa.String()),
        sa.Column("adapter_uri", sa.String()),
        sa.Column("adapter_digest", sa.String()),
        sa.Column("measurements", sa.JSON()),
        sa.Column("gates", sa.JSON()),
        sa.Column("production_model_version", sa.String()),
        sa.Column("report_uri", sa.String()),
        indexed=("run_id",),
    )
    _create_facts(
        "rollouts",
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("step", sa.Integer()),
        sa.Column("weight", sa.Integer()),
        sa.Column("guardrail", sa.String()),
        sa.Column("evidence", sa.JSON()),
        sa.Column("seconds_exposed", sa.Float()),
        sa.Column("users_exposed", sa.Integer()),
        indexed=("model_version",),
    )


def _create_models() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False, index=True),
        sa.Column("pipeline_version", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("base_model", sa.String(), nullable=False),
        sa.Column("base_model_digest", sa.String(), nullable=False),
        sa.Column("adapter_uri", sa.String(), nullable=False),
        sa.Column("adapter_digest", sa.String(), nullable=False),
        sa.Column("dataset", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("stage_reason", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, index=True),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.UniqueConstraint("evaluation_id"),
        sa.UniqueConstraint("route", "number", name="model_versions_number"),
    )
    op.create_index(
        "model_versions_one_production", "model_versions", ["pipeline"], unique=True,
        sqlite_where=sa.text("stage = 'production'"), postgresql_where=sa.text("stage = 'production'"),
    )
    op.create_table(
        "route_counters",
        sa.Column("route", sa.String(), primary_key=True),
        sa.Column("last", sa.Integer(), nullable=False),
    )
