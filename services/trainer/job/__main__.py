"""Runs one training attempt: ``python -m services.trainer.job s3://bucket/runs/RUN/ATTEMPT/job.json``.

Under torchrun, for more than one GPU, each of its processes is this program; see `services.trainer.job.team`.

Every end leaves a file for the service: ``result.json``, or ``failure.json`` with words for people. A job that is
killed leaves neither; neither does one that SIGTERM asked to stop, which has saved a checkpoint first.
"""

import os
import signal
import sys
import threading
import traceback
import warnings

from services.trainer.files import JobInput
from services.trainer.job.team import Team
from services.trainer.settings import JobSettings
from shared.errors import ConflictError, PermanentError, TuneloopError
from shared.jobs import JobFailure
from shared.s3 import ArtifactStore, connect_store

STOPPED = 143
# Advice to those who write training code, not to those who read this job's log.
_NOISY_MODULES = r"(accelerate|datasets|huggingface_hub|peft|torch|transformers|trl)\b"


def main(arguments: list[str]) -> int:
    """Run the attempt; the exit code."""
    (uri,) = arguments
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Models come from our S3 alone; a library that asks the hub about our names would hang where there is no way out.
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore", module=_NOISY_MODULES)
    settings = JobSettings()
    team = Team.of(os.environ)
    with connect_store(settings) as store:
        try:
            job = JobInput.model_validate_json(store.get_bytes(uri))
            # Imports torch and TRL, which takes seconds; a job that cannot read its input has failed before.
            from services.trainer.job.work import run_job

            return 0 if run_job(job, store, settings.cache_dir, stop, team) else STOPPED
        except Exception as error:  # noqa: BLE001 - whatever it is, a person must be told
            traceback.print_exc()
            _say_failure(store, uri.rpartition("/")[0] + "/failure.json", error)
            return 1
        finally:
            team.disband()


def _say_failure(store: ArtifactStore, uri: str, error: Exception) -> None:
    message = str(error) if isinstance(error, TuneloopError) else f"{type(error).__name__}: {error}"
    failure = JobFailure(message=message, permanent=isinstance(error, PermanentError))
    try:
        # Of several processes the first to fail knows why; the others have only lost it.
        store.put_bytes(uri, failure.model_dump_json().encode(), content_type="application/json", if_absent=True)
    except ConflictError:
        return
    except TuneloopError:
        # S3 is what failed. The service will see that the job ended without a word, and try again.
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
