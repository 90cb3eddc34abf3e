"""data_ingest's database on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.clock import VirtualClock
from shared.db import connect, migrate
from shared.settings import S3Settings
from tests.support.delivery import START
from tests.support.ingest import MIGRATIONS, Ingest, ingest


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/ingest.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    made = connect(url)
    migrate(made, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
def service(engine: Engine, s3_settings: S3Settings, tmp_path: Path, clock: VirtualClock) -> Iterator[Ingest]:
    with ingest(engine, s3_settings, tmp_path / "work", clock, pipeline_grace_seconds=60) as made:
        yield made
