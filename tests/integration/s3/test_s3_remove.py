"""Folders that nobody needs any more."""

from pathlib import Path

import pytest

from shared.s3 import connect_store
from shared.settings import S3Settings


@pytest.mark.integration
def test_a_removed_folder_is_gone_and_its_neighbour_is_not(s3_settings: S3Settings, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "state").write_bytes(b"y")
    with connect_store(s3_settings) as store:
        for name in ("step-1", "step-10"):
            store.put_dir_at(f"removal/{name}/", tmp_path, kind="checkpoint")
        store.remove_dir("removal/step-1")
        store.remove_dir("removal/step-1")

        assert store.manifest(f"s3://{store.bucket}/removal/step-1/") is None
        assert not store.exists("removal/step-1/sub/state")
        assert store.get_dir(f"s3://{store.bucket}/removal/step-10/", tmp_path / "back").kind == "checkpoint"
