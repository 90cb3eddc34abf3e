"""The command line against the real applications of the services, over real ports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

import services.registry
import services.rollout
from services.cli.app import build_app
from services.registry.api import build_router as registry_router
from services.registry.settings import RegistrySettings
from services.rollout.api import build_router as rollout_router
from services.rollout.settings import RolloutSettings
from shared.db import connect, migrate
from tests.support.apps import app_of
from tests.support.http import served

Run = Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """A service behind a port, and its database."""

    engine: Engine
    url: str


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
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``tuneloop`` with some arguments, in an empty folder; the variables name the services."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **environment: str) -> Any:
        return CliRunner().invoke(build_app(), list(arguments), env=environment, prog_name="tuneloop")

    return call
