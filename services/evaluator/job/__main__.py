"""Runs one evaluation: ``python -m services.evaluator.job --job s3://bucket/evaluations/ID/ATTEMPT/job.json``.

Every end leaves a file for the service: ``result.json``, or ``failure.json`` with words for people. A job that is
killed leaves neither, which the service sees as well.
"""

import argparse
import sys
import traceback

from services.evaluator.contract import FAILURE, JobFile
from services.evaluator.settings import JobSettings
from shared.clock import SystemClock
from shared.errors import PermanentError, TuneloopError
from shared.jobs import JobFailure
from shared.s3 import ArtifactStore, connect_store


def main(arguments: list[str] | None = None) -> int:
    """Run the job; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.evaluator.job", description="Runs one evaluation.")
    parser.add_argument("--job", required=True, help="S3 URI of the evaluation's job.json")
    uri = parser.parse_args(arguments).job
    settings = JobSettings()
    store = connect_store(settings)
    try:
        job = JobFile.model_validate_json(store.get_bytes(uri))
        # Imports torch, which takes seconds; a job that cannot read its file has failed before.
        from services.evaluator.job.work import run_job

        run_job(job, store, settings.cache_dir, SystemClock())
    except Exception as error:  # noqa: BLE001 - whatever it is, a person must be told
        traceback.print_exc()
        _say_failure(store, uri.rpartition("/")[0] + "/" + FAILURE, error)
        return 1
    return 0


def _say_failure(store: ArtifactStore, uri: str, error: Exception) -> None:
    message = str(error) if isinstance(error, TuneloopError) else f"{type(error).__name__}: {error}"
    failure = JobFailure(message=message, permanent=isinstance(error, PermanentError))
    try:
        store.put_bytes(uri, failure.model_dump_json().encode(), content_type="application/json")
    except TuneloopError:
        # S3 is what failed. The service will see that the job ended without a word, and try again.
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
