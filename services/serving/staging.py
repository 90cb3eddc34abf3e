"""Adapters from S3 onto the local disk, checked before a model server may see them."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.serving.adapter_files import InvalidAdapterError, read_adapter
from services.serving.decide import Wanted
from shared.errors import IntegrityError
from shared.events import ArtifactRef
from shared.recipe import ModelServer
from shared.s3 import ArtifactStore, Manifest, verify_dir

MANIFEST = "manifest.json"


def stage(store: ArtifactStore, wanted: Wanted) -> Manifest:
    """Bring the adapter to its folder, every byte checked; what is there already is checked again and S3 not asked.

    The adapter must not be listed by the server: damaged files are deleted and fetched anew. The agent and vLLM's
    plugin may do this at the same time; neither deletes what the other one has just fetched.
    """
    folder = Path(wanted.root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent):
        if folder.exists():
            try:
                return _verified(folder, wanted.digest)
            except (IntegrityError, OSError, ValueError):
                shutil.rmtree(folder)
    return store.get_dir(ArtifactRef(uri=wanted.uri, digest=wanted.digest), folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder, against other processes and threads; it ends with the process at the latest."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _verified(folder: Path, digest: str) -> Manifest:
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    if manifest.digest != digest:
        raise IntegrityError(f"{folder} holds {manifest.digest}, expected {digest}")
    verify_dir(folder, manifest)
    return manifest


def check(
    wanted: Wanted, manifest: Manifest, *, base_model: str, base_digest: str, max_rank: int,
    server: ModelServer = "vllm",
) -> None:
    """Whether the staged adapter may be loaded.

    A server loads an adapter for another base of the same shapes without a word, so the digest of the base that it
    was trained on must be the digest of the base that is served.

    Raises:
        InvalidAdapterError: it must not be; the reason names what was found and what was expected.
    """
    found = {key: manifest.meta.get(key) for key in ("base_model", "base_model_digest")}
    expected = {"base_model": base_model, "base_model_digest": base_digest}
    wrong = [f"{key} is {found[key]!r}, served is {expected[key]!r}" for key in expected if found[key] != expected[key]]
    if wrong:
        raise InvalidAdapterError(f"{wanted.uri} was made for another base model: {'; '.join(wrong)}")
    try:
        read_adapter(Path(wanted.root), max_rank=max_rank, server=server)
    except InvalidAdapterError as error:
        raise InvalidAdapterError(f"{wanted.uri}: {error}") from error
    except FileNotFoundError as error:
        raise InvalidAdapterError(f"{wanted.uri} is not an adapter: {error.filename} is missing") from error


def remove_folders(folders: list[str]) -> None:
    """Delete staged folders; one that is gone already is fine."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
