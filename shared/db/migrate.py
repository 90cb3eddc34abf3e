"""Bring a service's database to the newest schema. Runs at each start of a service."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

_ENVIRONMENT = Path(__file__).parent / "migrations"
# Replicas that start together on PostgreSQL migrate one after another. Any constant will do.
_LOCK = 7_305_008_842_511_001


def migrate(engine: Engine, migrations: Path) -> None:
    """Apply all revisions in ``migrations/versions`` that the database does not have, in one transaction.

    Raises:
        FileNotFoundError: when there are none, because a service without tables is a packaging mistake.
    """
    versions = migrations / "versions"
    if not any(versions.glob("*.py")):
        raise FileNotFoundError(f"no migrations in {versions}; each service has at least versions/0001_initial.py")
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions).replace("%", "%%"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
