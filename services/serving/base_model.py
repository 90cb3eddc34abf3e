"""The base model of a model server, from S3 onto the local disk."""

import threading
from pathlib import Path

from shared.clock import SystemClock
from shared.errors import TemporaryError
from shared.s3 import connect_store
from shared.settings import S3Settings
from shared.telemetry import get_logger

log = get_logger(__name__)

# Between two looks for a base model that is not in S3 yet, or while S3 is down.
RETRY_SECONDS = 2.0


def fetch_base_model(settings: S3Settings, name: str, cache_dir: Path) -> Path:
    """The base model's folder in the cache, downloaded from S3 where it is not there yet. Waits for S3."""
    clock, forever = SystemClock(), threading.Event()
    uri = f"base-models/{name}/"
    said = ""
    with connect_store(settings) as store:
        while True:
            try:
                manifest = store.manifest(uri)
                if manifest is not None:
                    target = cache_dir / "base-models" / manifest.digest.removeprefix("sha256:")
                    if not target.exists():
                        store.get_dir(uri, target)
                    return target
                missing = f"{uri} is not in bucket {store.bucket} yet"
            except TemporaryError as error:
                missing = str(error)
            if missing != said:
                log.warning("waiting for the base model", reason=missing)
                said = missing
            clock.wait(forever, RETRY_SECONDS)
