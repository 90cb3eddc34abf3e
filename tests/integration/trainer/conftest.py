"""The trainer's jobs on a real S3, with the tiny model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.demo.data import make_rows
from shared.events import DatasetRef
from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings
from tests.support.training import put_base_model, put_dataset


@pytest.fixture(scope="session")
def store(s3_settings: S3Settings, tiny_model: Path) -> Iterator[ArtifactStore]:
    """S3 with the tiny base model in it."""
    with connect_store(s3_settings) as connected:
        put_base_model(connected, tiny_model)
        yield connected


@pytest.fixture(scope="session")
def dataset(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """96 rows to train on and 12 to validate with."""
    rows = make_rows("good", 120, seed=5)
    folder = tmp_path_factory.mktemp("dataset") / "prepared"
    return put_dataset(store, folder, train=rows[:96], validation=rows[96:108], test=rows[108:])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs keep base models; shared by all of them, as on a real machine."""
    return tmp_path_factory.mktemp("cache")
