"""When a replica last reported, and whether anybody waits for it."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replicas", sa.Column("seen_at", UtcDateTime()))
    op.add_column("replicas", sa.Column("says_alive", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("replicas", sa.Column("forgotten_at", UtcDateTime()))
