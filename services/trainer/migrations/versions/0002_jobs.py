"""What the launcher says about a run's job."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("waits_for", "logs"):
        op.add_column("runs", sa.Column(column, sa.Text()))
