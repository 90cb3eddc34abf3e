"""The newest dataset version of each pipeline, for runs that drift asks for."""

import sqlalchemy as sa
from alembic import op

from shared.db import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "newest_datasets",
        sa.Column("pipeline", sa.String(), primary_key=True),
        sa.Column("dataset", sa.JSON(), nullable=False),
        sa.Column("prepared_at", UtcDateTime(), nullable=False),
    )
