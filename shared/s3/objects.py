"""Single objects of one bucket in S3. Artifacts, which are folders of them, are `shared.s3.store`'s."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from shared.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError, TemporaryError
from shared.s3.client import TRANSFER, translated
from shared.s3.manifest import sha256_of
from shared.s3.stream import StreamUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"


class ObjectStore:
    """One bucket. Addresses are ``s3://bucket/key`` URIs, or keys in the own bucket. Thread-safe.

    Every method blocks and does network I/O, and raises `TemporaryError` when S3 cannot be reached or refuses us; other
    errors are named where they differ.
    """

    def __init__(self, client: "S3Client", *, bucket: str, endpoint: str) -> None:
        self.bucket = bucket
        self._client = client
        self._endpoint = endpoint

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
