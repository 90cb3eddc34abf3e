"""What a run learned from beside its dataset: an adapter that it went on from, and an earlier dataset version."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("start_digest", "earlier_digest"):
        op.add_column("runs", sa.Column(column, sa.String()))
