"""The migrations make exactly the tables of the classes."""

from services.data_ingest.models import Base
from tests.support.db import assert_migrations_match
from tests.support.ingest import MIGRATIONS


def test_migrations_match_the_classes() -> None:
    assert_migrations_match(MIGRATIONS, Base.metadata)
