"""The S3 client: addresses, timeouts and retries, and its many errors in our few words."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from s3transfer.exceptions import RetriesExceededError

from shared.errors import ConflictError, InvalidInputError, NotFoundError, TemporaryError
from shared.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MEBIBYTE = 1024 * 1024
# S3 allows 10,000 parts, so this part size reaches 80 GiB; a part is what an upload keeps in memory.
PART_BYTES = 8 * MEBIBYTE
MAX_PARTS = 10_000
TRANSFER = TransferConfig(
    multipart_threshold=4 * PART_BYTES, multipart_chunksize=2 * PART_BYTES, max_concurrency=4, num_download_attempts=5
)
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_DENIED = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"})


def make_client(settings: S3Settings) -> "S3Client":
    """A thread-safe client for the S3 service of `settings`.

    Raises:
        InvalidInputError: only one of the access key and the secret key is set, or the authority is no PEM file.
    """
    _check_authority(settings.s3_ca_file)
    secret = settings.s3_secret_key.get_secret_value()
    if bool(settings.s3_access_key) != bool(secret):
        missing = "TUNELOOP_S3_SECRET_KEY" if settings.s3_access_key else "TUNELOOP_S3_ACCESS_KEY"
        raise InvalidInputError(f"only half of the S3 credentials is set: {missing} is missing")
    config = Config(
        connect_timeout=5,
        # Between two bytes, not for the whole answer: completing a large multipart upload may take a while.
        read_timeout=60,
        retries={"mode": "standard", "max_attempts": 5},
        max_pool_connections=16,
        s3={"addressing_style": "path"} if settings.s3_endpoint else None,
        # Many S3 servers other than AWS do not know the newer checksum trailers; our manifests carry sha256 anyway.
        request_checksum_calculation="when_required" if settings.s3_endpoint else "when_supported",
        response_checksum_validation="when_required" if settings.s3_endpoint else "when_supported",
    )
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key or None,
        aws_secret_access_key=secret or None,
        # None, and not True, leaves botocore's own AWS_CA_BUNDLE its say.
        verify=settings.s3_ca_file or None,
        config=config,
    )
    return client


def _check_authority(path: str) -> None:
    """botocore would say at each call that some file is wrong, and not which."""
    if not path:
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise InvalidInputError(f"TUNELOOP_S3_CA_FILE={path}: {error}; it must be a PEM file") from error


@contextmanager
def translated(action: str, uri: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 raises inside the block into the errors of `shared.errors`.

    Only a missing object and bad input are permanent: a wrong password or a missing bucket is mended by an operator,
    and no event may be lost until then.
    """
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, f"{action} {uri}", endpoint) from error
    except NoCredentialsError as error:
        raise TemporaryError(
            f"{action} {uri}: no S3 credentials; set TUNELOOP_S3_ACCESS_KEY and TUNELOOP_S3_SECRET_KEY"
        ) from error
    except ParamValidationError as error:
        raise InvalidInputError(f"{action} {uri}: not a valid S3 address: {error}") from error
    except Boto3Error as error:
        # boto3's upload helper hides the service's answer in the text of its own error.
        raise TemporaryError(f"{action} {uri} at {endpoint}: {error}") from error
    except (BotoCoreError, RetriesExceededError) as error:
        raise TemporaryError(f"{action} {uri}: S3 at {endpoint} did not answer as it should: {error}") from error


def _from_answer(error: ClientError, what: str, endpoint: str) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", "")) or str(error)
    if code in _MISSING:
        return NotFoundError(f"{what}: there is no such object")
    if code == "NoSuchBucket":
        return TemporaryError(f"{what}: the bucket does not exist at {endpoint}; create it or set TUNELOOP_S3_BUCKET")
    if code in _DENIED:
        return TemporaryError(f"{what}: {endpoint} refused our credentials ({code}); check TUNELOOP_S3_ACCESS_KEY")
    if code in {"PreconditionFailed", "ConditionalRequestConflict"}:
        return ConflictError(f"{what}: it exists already")
    return TemporaryError(f"{what}: S3 at {endpoint} answered {code}: {message}")
