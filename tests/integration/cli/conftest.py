"""The command line against the real applications of the services, over real ports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import Engine
from typer.testing import CliRunner

import services.data_ingest
import services.registry
import services.rollout
from services.cli.app import build_app
from services.data_ingest.api import build_router as ingest_router
from services.data_ingest.settings import DataIngestSettings
from services.registry.api import build_router as registry_router
from services.registry.settings import RegistrySettings
from services.rollout.api import build_router as rollout_router
from services.rollout.settings import RolloutSettings
from shared.db import connect, migrate
from shared.settings import S3Settings
from tests.support.apps import app_of
from tests.support.http import served

Run = Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """A service behind a port, and its database."""

    engine: Engine
    url: str


@pytest.fixture(autouse=True)
def _service_logs_are_not_output() -> Iterator[None]:
    """The services run in this process here; what they log must not look like the command's own output."""
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(),
                        processors=[structlog.stdlib.render_to_log_kwargs])
    yield
    structlog.reset_defaults()


def _database(folder: Path, package: Any) -> Engine:
    engine = connect(f"sqlite:///{folder}/{package.__name__}.db")
    migrate(engine, Path(package.__file__).parent / "migrations")
    return engine


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Backend]:
    engine = _database(tmp_path, services.registry)
    with served(app_of(RegistrySettings(), registry_router, engine)) as url:
        yield Backend(engine, url)
    engine.dispose()


@pytest.fixture
def rollout(tmp_path: Path) -> Iterator[Backend]:
    engine = _database(tmp_path, services.rollout)
    with served(app_of(RolloutSettings(), rollout_router, engine)) as url:
        yield Backend(engine, url)
    engine.dispose()


@pytest.fixture
def ingest(tmp_path: Path, s3_settings: S3Settings) -> Iterator[Backend]:
    engine = _database(tmp_path, services.data_ingest)
    settings = DataIngestSettings(**s3_settings.model_dump(), pipeline_wait_seconds=0.2)
    with served(app_of(settings, ingest_router, engine)) as url:
        yield Backend(engine, url)
    engine.dispose()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``tuneloop`` with some arguments, in an empty folder; the variables name the services."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **environment: str) -> Any:
        return CliRunner().invoke(build_app(), list(arguments), env=environment, prog_name="tuneloop")

    return call
