"""Each test of delivery runs on both databases."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from shared.clock import VirtualClock
from shared.db import connect
from tests.support.db import create_tables, sqlite_engine
from tests.support.echo import EchoBase
from tests.support.memory_broker import MemoryBroker


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A fresh database with the echo service's tables."""
    if request.param == "sqlite":
        with sqlite_engine(EchoBase.metadata) as engine:
            yield engine
        return
    engine = connect(request.getfixturevalue("postgres_url"))
    create_tables(engine, EchoBase.metadata)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def memory_broker() -> MemoryBroker:
    return MemoryBroker()
