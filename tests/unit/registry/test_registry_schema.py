"""The registry's migrations make exactly its table classes' tables."""

from pathlib import Path

import services.registry
from services.registry.models import Base
from tests.support.db import assert_migrations_match

MIGRATIONS = Path(services.registry.__file__).parent / "migrations"


def test_the_migrations_match_the_tables() -> None:
    assert_migrations_match(MIGRATIONS, Base.metadata)
