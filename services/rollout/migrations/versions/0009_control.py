"""Routes may have a control beside the candidate."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routes", sa.Column("control", sa.Integer(), nullable=True))
