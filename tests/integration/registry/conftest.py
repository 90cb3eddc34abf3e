"""The registry's database on SQLite and on PostgreSQL, with one pipeline applied."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

import services.registry
from services.registry.pipelines import apply_pipeline
from shared.clock import VirtualClock
from shared.db import connect, migrate, transaction
from shared.pipeline import parse_pipeline
from tests.support import facts
from tests.support.delivery import START

MIGRATIONS = Path(services.registry.__file__).parent / "migrations"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/registry.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    made = connect(url)
    migrate(made, MIGRATIONS)
    with transaction(made) as session:
        apply_pipeline(session, parse_pipeline(facts.PIPELINE), VirtualClock(START))
    yield made
    made.dispose()
