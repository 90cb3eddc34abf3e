"""Checkpoints in S3: whole or not there, found again by any later attempt of the run."""

from collections.abc import Sequence
from pathlib import Path

from shared.errors import IntegrityError
from shared.s3 import ArtifactStore
from shared.telemetry import get_logger

log = get_logger(__name__)

KEPT = 2
"""Checkpoints that stay: the newest, and one in case that it is damaged."""


def save(store: ArtifactStore, prefix: str, folder: Path, step: int) -> None:
    """Upload the checkpoint of a step; its manifest goes last, so a half-uploaded one does not count."""
    store.put_dir_at(f"{prefix}checkpoints/step-{step:06d}/", folder, kind="checkpoint", meta={"step": step})


def fetch_newest(store: ArtifactStore, prefixes: Sequence[str], target: Path) -> Path | None:
    """Download the newest whole checkpoint under any of `prefixes` (the newest attempt first).

    One that does not match its digests is passed over for the next older one.

    Returns:
        Its folder, named as the trainer expects it; None where there is none.
    """
    for uri in _newest_first(store, prefixes):
        folder = target / f"checkpoint-{_step(uri)}"
        try:
            store.get_dir(uri, folder)
        except IntegrityError as error:
            log.warning("a checkpoint is damaged; trying the one before it", checkpoint=uri, error=str(error))
            continue
        return folder
    return None


def prune(store: ArtifactStore, prefixes: Sequence[str]) -> None:
    """Remove all whole checkpoints under `prefixes` but the newest `KEPT`."""
    for uri in _newest_first(store, prefixes)[KEPT:]:
        store.remove_dir(uri)


def _newest_first(store: ArtifactStore, prefixes: Sequence[str]) -> list[str]:
    """Whole checkpoints by step; of the same step, the newest attempt's first, as `prefixes` are."""
    found = [uri for prefix in prefixes for uri in store.list_prefixes(prefix) if store.exists(uri)]
    return sorted(found, key=lambda uri: -_step(uri))


def _step(uri: str) -> int:
    return int(uri.rstrip("/").rpartition("step-")[2])
