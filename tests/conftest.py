"""Real components for the tests that ask for them, started once per test session on free ports."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from shared.settings import PREFIX, S3Settings

# Tests share the machine with the processes that they start: threads of one small product that wait for each other,
# spinning, for a core that another process has would take a hundred times as long. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that a failure speaks of the change and not of luck. HYPOTHESIS_PROFILE=search
# looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Unconfigured, structlog draws each traceback with all locals, which takes seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own TUNELOOP_ variables must not change what a test does."""
    for name in [name for name in os.environ if name.startswith(PREFIX) and not name.startswith("TUNELOOP_TEST_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Bootstrap address of a Tansu broker with all topics."""
    from shared.messaging.topics import create_topics
    from tests.support.broker import start_tansu

    with start_tansu(storage="memory://tansu/") as bootstrap:
        create_topics(bootstrap)
        yield bootstrap


@pytest.fixture(scope="session")
def s3_settings() -> Iterator[S3Settings]:
    """A SeaweedFS with one bucket."""
    from shared.s3 import connect_store
    from tests.support.s3 import start_seaweedfs

    with start_seaweedfs() as settings:
        with connect_store(settings) as store:
            store.ensure_bucket()
        yield settings


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SQLAlchemy URL of a PostgreSQL 18 server's default database."""
    from tests.support.postgres import start_postgres

    with start_postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """SQLAlchemy URL of a fresh database."""
    from tests.support.postgres import fresh_database

    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Hugging Face folder of the tiny base model. Made once per machine: the builder is seeded."""
    from services.cli.local.seed import base_model_folder

    return base_model_folder("tiny", say=lambda _: None)
