"""The artifact store: folders in and out of S3, whole or not at all.

Everything is safe to repeat: uploads are content-addressed or go to a prefix that one attempt owns, and existing
means done. Methods block and do network I/O, so none is called inside a database transaction.

Every method raises `TemporaryError` when S3 cannot be reached or refuses us; others are named where they differ.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from shared.errors import ConflictError, IntegrityError, NotFoundError
from shared.events import ArtifactRef
from shared.s3.client import TRANSFER, make_client
from shared.s3.manifest import (
    MANIFEST_NAME,
    Manifest,
    build_manifest,
    decode_manifest,
    verify_dir,
    verify_file,
)
from shared.s3.objects import ObjectStore
from shared.settings import S3Settings


def connect_store(settings: S3Settings) -> "ArtifactStore":
    """The store of `settings`. Makes no connection yet; `ArtifactStore.ping` does."""
    return ArtifactStore(make_client(settings), bucket=settings.s3_bucket, endpoint=settings.s3_endpoint or "AWS")


class ArtifactStore(ObjectStore):
    """One bucket of artifacts, and of single objects. Thread-safe."""

    def put_dir(self, kind: str, source: Path, *, meta: dict[str, Any] | None = None) -> ArtifactRef:
        """Store a local folder at ``<kind>/<hex digest>/``; the same files again are the same artifact.

        Raises:
            InvalidInputError: `source` is not a folder, or holds no file.
        """
        manifest = build_manifest(kind, source, meta)
        return self._put(f"{kind}/{manifest.digest.removeprefix('sha256:')}/", source, manifest)

    def put_dir_at(
        self, prefix: str, source: Path, *, kind: str, meta: dict[str, Any] | None = None
    ) -> ArtifactRef:
        """Store a local folder at a given prefix that nobody else writes to.

        Raises:
            ConflictError: the prefix holds other files already; artifacts never change.
            InvalidInputError: `source` is not a folder, or holds no file.
        """
        return self._put(prefix, source, build_manifest(kind, source, meta))

    def _put(self, prefix: str, source: Path, manifest: Manifest) -> ArtifactRef:
        uri = self._uri(prefix).rstrip("/") + "/"
        ref = ArtifactRef(uri=uri, digest=manifest.digest)
        if self._present(ref):
            return ref
        for entry in manifest.files:
            bucket, key = self._split(uri + entry.path)
            with self._translated("upload", uri + entry.path):
                self._client.upload_file(str(source / entry.path), bucket, key, Config=TRANSFER)
        try:
            # Last, and only if nobody was faster: from here on the artifact exists.
            self.put_bytes(uri + MANIFEST_NAME, manifest.encode(), content_type="application/json", if_absent=True)
        except ConflictError:
            self._present(ref)
        return ref

    def _present(self, ref: ArtifactRef) -> bool:
        """Whether this very artifact is there; ConflictError if another one is."""
        existing = self.manifest(ref.uri)
        if existing is not None and existing.digest != ref.digest:
            raise ConflictError(
                f"{ref.uri} holds {existing.kind} {existing.digest} already, so {ref.digest} cannot be stored there; "
                "artifacts never change: choose another prefix"
            )
        return existing is not None

    def get_dir(self, ref: ArtifactRef | str, target: Path) -> Manifest:
        """Download a whole artifact to `target`, which appears only when every byte was checked.

        The folder gets a copy of ``manifest.json``, so that it can be verified again without S3. A `target` that
        holds this very artifact already is checked and kept.

        Raises:
            NotFoundError: there is no (whole) artifact at that address.
            IntegrityError: the digest of the manifest, or a file's size or digest, is not as promised.
            ConflictError: `target` exists and holds something else.
        """
        uri = self._uri(ref if isinstance(ref, str) else ref.uri).rstrip("/") + "/"
        manifest = self.manifest(uri)
        if manifest is None:
            raise NotFoundError(f"{uri}: no whole artifact is there ({MANIFEST_NAME} is missing)")
        if isinstance(ref, ArtifactRef) and manifest.digest != ref.digest:
            raise IntegrityError(f"{uri}: expected digest {ref.digest}, but its manifest says {manifest.digest}")
        if _holds(target, manifest):
            return manifest
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            self._fill(partial, uri, manifest)
            _move_into_place(partial, target, manifest)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def _fill(self, folder: Path, uri: str, manifest: Manifest) -> None:
        for entry in manifest.files:
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._download(uri + entry.path, path)
            verify_file(path, entry, source=uri)
        (folder / MANIFEST_NAME).write_bytes(manifest.encode())
        folder.chmod(0o755)

    def remove_dir(self, uri: str) -> None:
        """Remove a folder, its manifest first, so that it is never half there. For what is no longer wanted by anyone:
        checkpoints that newer ones replaced; what events refer to stays forever.
        """
        address = self._uri(uri).rstrip("/") + "/"
        bucket, prefix = self._split(address)
        with self._translated("remove", address):
            self._client.delete_object(Bucket=bucket, Key=prefix + MANIFEST_NAME)
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for key in [item["Key"] for page in pages for item in page.get("Contents", [])]:
                self._client.delete_object(Bucket=bucket, Key=key)

    def manifest(self, uri: str) -> Manifest | None:
        """The manifest of the artifact at `uri`; None where there is no whole artifact.

        Raises:
            IntegrityError: something is there that is not a manifest, or contradicts itself.
        """
        address = self._uri(uri).rstrip("/") + "/" + MANIFEST_NAME
        try:
            return decode_manifest(self.get_bytes(address), source=address)
        except NotFoundError:
            return None

    def exists(self, uri: str) -> bool:
        """Whether an object exists; for an address that ends in ``/``, whether a whole artifact does."""
        address = self._uri(uri)
        address += MANIFEST_NAME if address.endswith("/") else ""
        bucket, key = self._split(address)
        try:
            with self._translated("look for", address):
                self._client.head_object(Bucket=bucket, Key=key)
        except NotFoundError:
            return False
        return True


def _holds(target: Path, manifest: Manifest) -> bool:
    """Whether `target` is this artifact already; ConflictError if it is something else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        verify_dir(target, manifest)
    except IntegrityError as error:
        raise ConflictError(f"{target} exists and is not the artifact {manifest.digest}: {error}; remove it") from error
    return True


def _move_into_place(partial: Path, target: Path, manifest: Manifest) -> None:
    try:
        os.rename(partial, target)  # onto nothing or an empty folder, atomically
    except OSError:
        # Another process may have been faster with the same artifact; then all is well.
        if not _holds(target, manifest):
            raise
