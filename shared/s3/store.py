"""The artifact store: folders in and out of S3, whole or not at all.

Everything is safe to repeat: uploads are content-addressed or go to a prefix that one attempt owns, and existing
means done. Methods block and do network I/O, so none is called inside a database transaction.

Every method raises `TemporaryError` when S3 cannot be reached or refuses us; others are named where they differ.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from shared.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError, TemporaryError
from shared.events import ArtifactRef
from shared.s3.client import TRANSFER, make_client, translated
from shared.s3.manifest import (
    MANIFEST_NAME,
    Manifest,
    build_manifest,
    decode_manifest,
    sha256_of,
    verify_dir,
    verify_file,
)
from shared.s3.stream import StreamUpload
from shared.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"


def connect_store(settings: S3Settings) -> "ArtifactStore":
    """The store of `settings`. Makes no connection yet; `ArtifactStore.ping` does."""
    return ArtifactStore(make_client(settings), bucket=settings.s3_bucket, endpoint=settings.s3_endpoint or "AWS")


class ArtifactStore:
    """One bucket of artifacts. Addresses are ``s3://bucket/key`` URIs, or keys in the own bucket. Thread-safe."""

    def __init__(self, client: "S3Client", *, bucket: str, endpoint: str) -> None:
        self.bucket = bucket
        self._client = client
        self._endpoint = endpoint

    # --- folders

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

    # --- single objects

    def put_bytes(
        self, key: str, data: bytes, *, content_type: str = "application/octet-stream", if_absent: bool = False
    ) -> str:
        """Write one small object; its URI.

        Raises:
            ConflictError: with `if_absent`, the object exists with other bytes.
        """
        uri = self._uri(key)
        bucket, name = self._split(uri)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            with self._translated("write", uri):
                self._client.put_object(Bucket=bucket, Key=name, Body=data, ContentType=content_type, **condition)
        except ConflictError:
            # Also what the retry of a write sees whose first answer got lost.
            if self.get_bytes(uri) != data:
                raise
        return uri

    def get_bytes(self, uri: str) -> bytes:
        """Read one small object whole. NotFoundError where it does not exist."""
        uri = self._uri(uri)
        bucket, key = self._split(uri)
        with self._translated("read", uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def put_stream(self, key: str, chunks: Iterable[bytes], max_bytes: int) -> tuple[str, str, int]:
        """Write an object from a stream of unknown length in bounded memory: its URI, ``sha256:`` digest and size.

        The object appears whole at the end, or not at all: whatever `chunks` raises ends the upload and is raised.

        Raises:
            InvalidInputError: the stream is longer than `max_bytes`.
        """
        uri = self._uri(key)
        bucket, name = self._split(uri)
        upload = StreamUpload(self._client, bucket=bucket, key=name, max_bytes=max_bytes)
        with self._translated("upload", uri):
            return (uri, *upload.run(chunks))

    def download(self, uri: str, path: Path, *, sha256: str | None) -> None:
        """Download one object to `path`, which appears only when the bytes were checked.

        Raises:
            NotFoundError: the object does not exist.
            IntegrityError: its digest is not `sha256`.
        """
        uri = self._uri(uri)
        partial = path.with_name(f".{path.name}.partial")
        try:
            self._download(uri, partial)
            if sha256 is not None and (found := sha256_of(partial)) != sha256:
                raise IntegrityError(f"{uri}: expected digest {sha256}, but its bytes have {found}")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _download(self, uri: str, path: Path) -> None:
        bucket, key = self._split(uri)
        with self._translated("download", uri):
            self._client.download_file(bucket, key, str(path), Config=TRANSFER)

    # --- looking around

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

    def size(self, uri: str) -> int:
        """Bytes of an object. NotFoundError where it does not exist."""
        bucket, key = self._split(self._uri(uri))
        with self._translated("look for", uri):
            return int(self._client.head_object(Bucket=bucket, Key=key)["ContentLength"])

    def list_prefixes(self, prefix: str) -> list[str]:
        """URIs of the folders right below a prefix, each ending in ``/``, sorted."""
        uri = self._uri(prefix).rstrip("/") + "/"
        bucket, key = self._split(uri)
        with self._translated("list", uri):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, Delimiter="/")
            found = {item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])}
        return sorted(f"{SCHEME}{bucket}/{name}" for name in found)

    def ensure_bucket(self) -> None:
        """Create the bucket where it does not exist."""
        uri = f"{SCHEME}{self.bucket}"
        try:
            with self._translated("look for", uri):
                self._client.head_bucket(Bucket=self.bucket)
        except NotFoundError:
            with self._translated("create", uri):
                self._create_bucket()

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        # us-east-1 is the one region that must not be named.
        place: dict[str, Any] = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        try:
            self._client.create_bucket(Bucket=self.bucket, **place)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def ping(self) -> None:
        """Return if the bucket answers; for readiness checks."""
        uri = f"{SCHEME}{self.bucket}"
        try:
            with self._translated("look for", uri):
                self._client.head_bucket(Bucket=self.bucket)
        except NotFoundError as error:
            raise TemporaryError(f"the bucket {uri} does not exist at {self._endpoint}") from error

    def close(self) -> None:
        """Close the connections; the end of a ``with`` block does it too."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _uri(self, address: str) -> str:
        return address if address.startswith(SCHEME) else f"{SCHEME}{self.bucket}/{address.lstrip('/')}"

    def _split(self, uri: str) -> tuple[str, str]:
        bucket, _, key = uri.removeprefix(SCHEME).partition("/")
        if not bucket or not key:
            raise InvalidInputError(f"{uri!r} is not an S3 address; write s3://bucket/key")
        return bucket, key

    def _translated(self, action: str, uri: str) -> AbstractContextManager[None]:
        return translated(action, uri, self._endpoint)


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
