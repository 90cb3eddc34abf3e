"""The controller's database on SQLite and on PostgreSQL, and a stand around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.db import connect, migrate
from tests.support.rollout_stand import MIGRATIONS, Stand, stand


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/rollout.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    made = connect(url)
    migrate(made, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def controller(engine: Engine) -> Iterator[Stand]:
    with stand(engine) as made:
        yield made
