"""Several jobs in one start of a team: ``torchrun -m tests.support.jobs_in_turn s3://.../job.json ...``."""

import os
import sys
import threading

from services.trainer.files import JobInput
from services.trainer.job.team import Team
from services.trainer.job.work import run_job
from services.trainer.settings import JobSettings
from shared.s3 import connect_store


def main(uris: list[str]) -> None:
    """Run one after another; the first that fails ends all."""
    settings, team = JobSettings(), Team.of(os.environ)
    with connect_store(settings) as store:
        for uri in uris:
            job = JobInput.model_validate_json(store.get_bytes(uri))
            assert run_job(job, store, settings.cache_dir, threading.Event(), team)
    team.disband()


if __name__ == "__main__":
    main(sys.argv[1:])
