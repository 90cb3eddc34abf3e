"""What a run of the platform costs outside its training loop: a whole training job, from S3 and back to it.

``python -m benchmarks.training.overhead s3://BUCKET/KEY/job.json`` runs the job in this process and prints the CPU
seconds of all of it and of the loop.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import said_by
from benchmarks.training.outcome import BATCH, MAX_LENGTH
from benchmarks.training.rows import tickets
from shared.recipe import TrainingRecipe
from shared.s3 import connect_store
from tests.support.s3 import start_seaweedfs
from tests.support.training import job_environment, put_base_model, put_dataset, write_job

BAR_SECONDS = 5.0
_TRAINED, _HELD_OUT = 16, 8


def overhead(model_folder: Path, model: str, seed: int) -> float:
    """CPU seconds of a job's process outside the loop: imports, transfers, checks, proofs and the result.

    The base model is on the machine already, as it is after the first run there.

    Raises:
        SystemExit: the job failed; with the end of what it said.
    """
    from services.trainer.job.base import fetch_base

    found = tickets(_TRAINED + _HELD_OUT, seed)
    recipe = TrainingRecipe(batch_size=BATCH, max_length=MAX_LENGTH, checkpoint_every_steps=1000,
                            validate_every_steps=1000)
    with start_seaweedfs() as settings, connect_store(settings) as store, tempfile.TemporaryDirectory() as scratch:
        store.ensure_bucket()
        put_base_model(store, model_folder, model)
        dataset = put_dataset(store, Path(scratch) / "dataset", train=found[:_TRAINED], validation=found[_TRAINED:])
        cache = Path(scratch) / "cache"
        fetch_base(store, model, cache)
        job = write_job(store, dataset, recipe, run="measured", base_model=model)
        uri = f"s3://{settings.s3_bucket}/{job.prefix}job.json"
        spent = said_by("the job", "benchmarks.training.overhead", [uri],
                        {**job_environment(settings, cache), "OMP_NUM_THREADS": "1"})
    return float(spent["total"] - spent["loop"])


def main(arguments: list[str]) -> int:
    """Run the job, and say what it took."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported, as the job does
    from transformers import Trainer

    from services.trainer.job.__main__ import main as run_job

    loop = 0.0
    train = Trainer.train

    def timed(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal loop
        began = time.process_time()
        try:
            return train(self, *args, **options)
        finally:
            loop += time.process_time() - began

    Trainer.train = timed
    code = run_job(arguments)
    print(json.dumps({"total": time.process_time(), "loop": loop}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
