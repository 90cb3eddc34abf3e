"""Checkpoints in a real S3: which one a new attempt starts from, and which stay."""

from pathlib import Path

import pytest

from services.trainer.job import checkpoints
from shared.s3 import ArtifactStore

pytestmark = pytest.mark.integration


def _save(store: ArtifactStore, tmp: Path, run: str, attempt: int, step: int) -> str:
    folder = tmp / f"{attempt}-{step}"
    folder.mkdir()
    (folder / "state").write_text(f"attempt {attempt} step {step}")
    checkpoints.save(store, f"runs/{run}/{attempt}/", folder, step)
    return f"runs/{run}/{attempt}/checkpoints/step-{step:06d}/"


def _prefixes(run: str, attempts: int) -> list[str]:
    return [f"runs/{run}/{number}/checkpoints/" for number in range(attempts, 0, -1)]


def _fetched(store: ArtifactStore, run: str, tmp: Path) -> str | None:
    folder = checkpoints.fetch_newest(store, _prefixes(run, 3), tmp / "fetched")
    return (folder / "state").read_text() if folder else None


def test_the_highest_step_of_any_attempt_is_the_newest(store: ArtifactStore, tmp_path: Path) -> None:
    assert _fetched(store, "ck-newest", tmp_path) is None
    _save(store, tmp_path, "ck-newest", 1, 5)
    _save(store, tmp_path, "ck-newest", 1, 100)
    _save(store, tmp_path, "ck-newest", 2, 20)
    assert _fetched(store, "ck-newest", tmp_path) == "attempt 1 step 100"


def test_half_a_checkpoint_is_none(store: ArtifactStore, tmp_path: Path) -> None:
    _save(store, tmp_path, "ck-half", 1, 5)
    store.put_bytes("runs/ck-half/1/checkpoints/step-000010/state", b"the upload was killed before the manifest")
    assert _fetched(store, "ck-half", tmp_path) == "attempt 1 step 5"


def test_a_damaged_checkpoint_is_passed_over(store: ArtifactStore, tmp_path: Path) -> None:
    _save(store, tmp_path, "ck-damaged", 1, 5)
    damaged = _save(store, tmp_path, "ck-damaged", 2, 10)
    store.put_bytes(f"{damaged}state", b"attempt 2 step 99")
    assert _fetched(store, "ck-damaged", tmp_path) == "attempt 1 step 5"


def test_the_newest_two_stay(store: ArtifactStore, tmp_path: Path) -> None:
    for attempt, step in ((1, 5), (1, 10), (2, 12), (2, 15)):
        _save(store, tmp_path, "ck-kept", attempt, step)
    checkpoints.prune(store, _prefixes("ck-kept", 2))

    found = [uri for prefix in _prefixes("ck-kept", 2) for uri in store.list_prefixes(prefix) if store.exists(uri)]
    assert [uri[-12:-1] for uri in found] == ["step-000012", "step-000015"]
