"""What must exist before the services start: buckets, topics, and the base model in S3. All of it idempotent.

Kafka and S3 are imported where they are used: every `tuneloop` command imports this module, and they take a second.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from services.cli.local.checks import MachineError
from services.cli.local.processes import environment
from shared.settings import S3Settings

if TYPE_CHECKING:
    from services.cli.local.plan import Plan
    from shared.s3 import ArtifactStore

BUCKET = "tuneloop"
LOG_BUCKET = "tuneloop-log"
# Part of the cached folders' names. Raise it when shared/base_models makes another folder of the same name.
BASE_MODELS_VERSION = 2


def store_settings(plan: "Plan", bucket: str = BUCKET) -> S3Settings:
    """How to reach the stack's S3."""
    return S3Settings(
        s3_endpoint=plan.url("s3"), s3_bucket=bucket, s3_access_key=plan.credentials.access_key,
        s3_secret_key=SecretStr(plan.credentials.secret_key),
    )


def base_model(store: "ArtifactStore", name: str, *, say: Callable[[str], None]) -> None:
    """Put the base model `name` into S3 as ``base-models/<name>/``, making its folder first where needed.

    Raises:
        MachineError: if there is no such model, or making it failed.
    """
    if store.manifest(f"s3://{store.bucket}/base-models/{name}/") is not None:
        return
    folder = base_model_folder(name, say=say)
    say(f"putting the base model {name} into S3")
    store.put_dir_at(f"base-models/{name}/", folder, kind="base-model", meta={"base_model": name})


def base_model_folder(name: str, *, say: Callable[[str], None]) -> Path:
    """A base model's Hugging Face folder in ``$XDG_CACHE_HOME/tuneloop``, where it is kept between stacks.

    Raises:
        MachineError: if there is no such model, or making it failed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneloop" / "base-models"
    folder = cache / f"{name}-{BASE_MODELS_VERSION}"
    if not folder.exists():
        say(f"making the base model {name} (once, about half a minute)")
        _make_base_model(name, folder)
    return folder


def _make_base_model(name: str, folder: Path) -> None:
    """Make it in a process of its own, so that torch's memory goes with it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as temporary:
        made = Path(temporary) / name
        done = subprocess.run(
            [sys.executable, "-m", "shared.base_models", name, str(made)], env=environment(),
            capture_output=True, text=True, check=False,
        )
        if done.returncode != 0:
            raise MachineError(f"making the base model {name} failed: {done.stderr.strip()[-500:]}")
        if not folder.exists():
            shutil.move(made, folder)


def buckets(store: "ArtifactStore", plan: "Plan") -> None:
    """The bucket for artifacts, and the one that the broker keeps its log in."""
    from shared.s3 import connect_store

    store.ensure_bucket()
    with connect_store(store_settings(plan, LOG_BUCKET)) as log:
        log.ensure_bucket()


def topics(bootstrap: str, timeout: float = 30.0) -> None:
    """Every topic. The port accepts a moment before the broker answers, so a refusal at first is not a failure."""
    from kafka.errors import KafkaError

    from shared.messaging.topics import create_topics

    deadline = time.monotonic() + timeout
    while True:
        try:
            return create_topics(bootstrap)
        except KafkaError as error:
            if time.monotonic() > deadline:
                raise MachineError(f"the broker at {bootstrap} did not create the topics: {error}") from error
            time.sleep(0.2)
