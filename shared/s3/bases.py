"""Base models, kept on a machine between jobs."""

from pathlib import Path

from shared.events import ArtifactRef
from shared.s3.store import ArtifactStore


def cached_base(store: ArtifactStore, base: ArtifactRef, cache_dir: Path) -> Path:
    """The local folder of a base model, fetched where the cache does not have its digest.

    Raises:
        IntegrityError: it is not what the digest promises.
        NotFoundError: it is not in S3.
    """
    folder = cache_dir / "base-models" / base.digest.removeprefix("sha256:")
    store.get_dir(base, folder)
    return folder
