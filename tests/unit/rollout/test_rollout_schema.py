"""The migrations make exactly the tables of the classes."""

from pathlib import Path

import services.rollout
from services.rollout.models import Base
from tests.support.db import assert_migrations_match


def test_migrations_match_the_tables() -> None:
    assert_migrations_match(Path(services.rollout.__file__).parent / "migrations", Base.metadata)
