"""Routes say which share of the requests is copied to the candidate."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routes", sa.Column("shadow", sa.Integer(), nullable=False, server_default="0"))
