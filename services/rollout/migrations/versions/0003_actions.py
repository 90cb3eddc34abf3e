"""A version may have several rollouts (retry, undo), and decisions say who asked for them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _many_rollouts_of_a_version()
    op.add_column("rollouts", sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
    for table in ("commands", "decisions"):
        op.add_column(table, sa.Column("by", sa.String(), nullable=False, server_default=""))
    op.add_column("commands", sa.Column("full", sa.Boolean(), nullable=False, server_default=sa.false()))


def _many_rollouts_of_a_version() -> None:
    """The first migration gave the constraint no name: PostgreSQL made one up, SQLite must write the table anew."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("rollouts_model_version_key", "rollouts", type_="unique")
    else:
        convention = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
        with op.batch_alter_table("rollouts", recreate="always", naming_convention=convention) as rollouts:
            rollouts.drop_constraint("uq_rollouts_model_version", type_="unique")
    op.create_index("ix_rollouts_model_version", "rollouts", ["model_version"])
