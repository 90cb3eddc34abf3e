"""A multipart upload of a stream whose length nobody knows yet."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import InvalidInputError
from shared.s3.client import MAX_PARTS, PART_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


class StreamUpload:
    """Uploads one stream; keeps one part in memory, a second while it is being sent."""

    def __init__(self, client: "S3Client", *, bucket: str, key: str, max_bytes: int) -> None:
        self._client = client
        self._bucket, self._key, self._max_bytes = bucket, key, max_bytes
        self._part_bytes = max(PART_BYTES, -(-max_bytes // MAX_PARTS))
        self._upload_id = ""
        self._parts: list[CompletedPartTypeDef] = []

    def run(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Upload all of `chunks`: digest as ``sha256:<hex>``, and size."""
        try:
            digest, size, rest = self._send_all(chunks)
            self._finish(rest)
        except BaseException:
            self._abort()
            raise
        return digest, size

    def _send_all(self, chunks: Iterable[bytes]) -> tuple[str, int, bytes]:
        hasher, size, buffer = hashlib.sha256(), 0, bytearray()
        for chunk in chunks:
            size += len(chunk)
            if size > self._max_bytes:
                raise InvalidInputError(
                    f"the upload is longer than the allowed {self._max_bytes} bytes; split it into several datasets"
                )
            hasher.update(chunk)
            buffer += chunk
            while len(buffer) >= self._part_bytes:
                self._send_part(bytes(buffer[: self._part_bytes]))
                del buffer[: self._part_bytes]
        return "sha256:" + hasher.hexdigest(), size, bytes(buffer)

    def _send_part(self, data: bytes) -> None:
        if not self._upload_id:
            started = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)
            self._upload_id = started["UploadId"]
        number = len(self._parts) + 1
        answer = self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=data
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _finish(self, rest: bytes) -> None:
        if not self._upload_id:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=rest)
            return
        if rest:
            self._send_part(rest)
        self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
        )

    def _abort(self) -> None:
        """Free the parts that were sent. The first error matters more than a failure here."""
        if self._upload_id:
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)
