"""Places in the queue, what runs have taken of their limits, and retries."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("queued_at", "admitted_at", "began_at"):
        op.add_column("runs", sa.Column(column, UtcDateTime()))
    op.add_column("runs", sa.Column("used_seconds", sa.Float(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("earlier_attempts", sa.Integer(), nullable=False, server_default="0"))
    for column in ("stopped_because", "retried_because"):
        op.add_column("runs", sa.Column(column, sa.Text()))
    # Runs at work have their places.
    op.execute("UPDATE runs SET admitted_at = started_at, began_at = started_at WHERE state = 'running' OR attempt > 1")
