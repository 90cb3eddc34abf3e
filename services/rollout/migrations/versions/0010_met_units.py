"""What units met, as gateways tell it: each unit once, whichever gateways met it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routes", sa.Column("counted", sa.JSON(), nullable=True))
    op.create_table(
        "met_units",
        sa.Column("route", sa.String(), primary_key=True),
        sa.Column("cell", sa.String(), primary_key=True),
        sa.Column("unit", sa.String(), primary_key=True),
    )
    op.create_table(
        "met_counts",
        sa.Column("route", sa.String(), primary_key=True),
        sa.Column("version", sa.String(), primary_key=True),
        sa.Column("cell", sa.String(), primary_key=True),
        sa.Column("units", sa.Integer(), nullable=False),
    )
