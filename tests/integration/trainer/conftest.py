"""A dataset for the trainer's jobs."""

import pytest

from services.cli.demo.data import make_rows
from shared.events import DatasetRef
from shared.s3 import ArtifactStore
from tests.support.training import put_dataset


@pytest.fixture(scope="session")
def dataset(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """96 rows to train on and 12 to validate with."""
    rows = make_rows("good", 120, seed=5)
    folder = tmp_path_factory.mktemp("dataset") / "prepared"
    return put_dataset(store, folder, train=rows[:96], validation=rows[96:108], test=rows[108:])
