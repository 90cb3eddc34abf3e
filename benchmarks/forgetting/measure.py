"""All ways with all seeds, each seed by a process of its own on an S3 of its own."""

import os
import platform
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.forgetting.report import Results, Run
from benchmarks.forgetting.tasks import BASE, LORA, Bench, Family, Way
from shared.base_models import BUILDERS
from shared.s3 import connect_store
from tests.support.s3 import start_seaweedfs

FAMILIES: tuple[Family, ...] = ("full", "adapter")
# From what changes little to what hinders the second task.
REPLAY = (0.1, 0.2, 0.3)
EWC = (0.03, 0.3, 1.0, 3.0, 30.0)
L2 = (0.1, 0.5, 2.0, 10.0)


def ways() -> list[Way]:
    """What is compared."""
    found = [Way("full", "low-rank only", "a new LoRA on the whole model", LORA)]
    for family in FAMILIES:
        found += [
            Way(family, "none"),
            *(_way(family, "replay", "share", share) for share in REPLAY),
            *(_way(family, "ewc", "strength", strength) for strength in EWC),
            *(_way(family, "l2", "strength", strength) for strength in L2),
            Way(family, "gradual unfreezing", "16 steps a layer",
                {"forgetting": {"gradualUnfreezing": {"stepsPerStage": 16}}}),
        ]
    return found


def _way(family: Family, name: str, key: str, value: float) -> Way:
    return Way(family, name, f"{key} {value:g}", {"forgetting": {name: {key: value}}})


def measure(seeds: Sequence[int], workers: int) -> Results:
    """Train and score everything."""
    # Spawned, as torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = [run for part in pool.map(_measure_seed, seeds) for run in part]
    return Results(machine=f"{platform.machine()}, one thread each", runs=runs)


def _measure_seed(seed: int) -> list[Run]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore", module=r"(accelerate|datasets|huggingface_hub|peft|torch|transformers|trl)\b")
    torch.set_num_threads(1)
    runs = []
    with tempfile.TemporaryDirectory() as scratch, start_seaweedfs() as settings, connect_store(settings) as store:
        tiny = Path(scratch) / BASE
        BUILDERS[BASE](tiny)
        bench = Bench(store, tiny, Path(scratch), seed)
        before = {family: bench.before(family) for family in FAMILIES}
        for way in ways():
            runs.append(Run(seed=seed, family=way.family, name=way.name, setting=way.setting,
                            before=before[way.family], after=bench.learn(way)))
            print(runs[-1].model_dump_json(), flush=True)
    return runs
