"""What launched jobs need: a real S3 with the tiny base model, a cache folder, and an environment that says where."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings
from tests.support.training import job_environment, put_base_model


@pytest.fixture(scope="session")
def store(s3_settings: S3Settings, tiny_model: Path) -> Iterator[ArtifactStore]:
    """S3 with the tiny base model in it."""
    with connect_store(s3_settings) as connected:
        put_base_model(connected, tiny_model)
        yield connected


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs keep base models; shared by all of them, as on a real machine."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def job_cache(s3_settings: S3Settings, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, with the environment that jobs inherit from the service that launches them."""
    for name, value in job_environment(s3_settings, cache).items():
        monkeypatch.setenv(name, value)
    return cache
