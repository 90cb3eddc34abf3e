"""Going on from adapters and keeping what they know: each resumed to the same bytes, with what it was made from."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.cli.demo.data import make_rows
from services.trainer.files import JobInput, Result
from services.trainer.job.work import run_job
from shared.errors import InvalidInputError
from shared.events import ArtifactRef
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore, Manifest
from tests.support.training import put_dataset, write_job

# PEFT calls models with the name that their cache had before transformers 5.20; a job's own log leaves such advice out.
pytestmark = [
    pytest.mark.integration, pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),
]

# Two steps.
STEPS: dict[str, Any] = {"batch_size": 4, "learning_rate": 1e-2, "checkpoint_every_steps": 1, "max_length": 64,
                         "validate_every_steps": 100}
SHAPES: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}, "qlora": {"lora": {"rank": 4}}, "ia3": {},
    "prefix": {"virtual_tokens": 4}, "prompt": {"virtual_tokens": 4}, "adapter": {"bottleneck": 8}, "full": {},
}
STILL = 1e-12


class Jobs:
    """Two tasks, and jobs that learn the second."""

    def __init__(self, store: ArtifactStore, cache: Path, folder: Path) -> None:
        self.store, self.cache, self.folder = store, cache, folder
        rows = make_rows("good", 40, seed=5)
        self.earlier = put_dataset(store, folder / "a", train=rows[:16], validation=rows[16:18], test=rows[18:20])
        # A prompt of the first task that is held out now.
        self.new = put_dataset(store, folder / "b", train=rows[20:28], validation=rows[28:30], test=rows[:2])
        self.starts: dict[str, ArtifactRef] = {}
        self.plains: dict[str, Result] = {}

    def job(self, method: str, run: str, *, attempt: int = 1, goes_on: bool = True, **recipe: Any) -> JobInput:
        made = TrainingRecipe.model_validate({**STEPS, "method": method, **SHAPES[method], **recipe})
        job = write_job(self.store, self.new, made, run=f"forget-{method}-{run}", attempt=attempt)
        start = self.start(method) if goes_on else None
        return job.model_copy(update={"start": start, "earlier": self.earlier.artifact})

    def start(self, method: str) -> ArtifactRef:
        """An adapter that learned the first task for two steps."""
        if method not in self.starts:
            recipe = TrainingRecipe.model_validate({**STEPS, "method": method, **SHAPES[method], "batch_size": 8})
            job = write_job(self.store, self.earlier, recipe, run=f"forget-a-{method}")
            self.starts[method] = self.run(job).adapter
        return self.starts[method]

    def plain(self, method: str, *, goes_on: bool) -> Result:
        """Of a run that keeps nothing."""
        if method not in self.plains:
            self.plains[method] = self.run(self.job(method, "plain", goes_on=goes_on))
        return self.plains[method]

    def run(self, job: JobInput) -> Result:
        assert run_job(job, self.store, self.cache, threading.Event())
        return Result.model_validate_json(self.store.get_bytes(f"{job.prefix}result.json"))

    def resumed(self, method: str, run: str, **recipe: Any) -> Result:
        """Of a run that was stopped after its first step."""
        stop = threading.Event()
        stop.set()
        assert not run_job(self.job(method, run, **recipe), self.store, self.cache, stop)
        return self.run(self.job(method, run, attempt=2, **recipe))

    def manifest(self, artifact: ArtifactRef) -> Manifest:
        found = self.store.manifest(artifact.uri)
        assert found is not None
        return found

    def weights(self, artifact: ArtifactRef) -> dict[str, torch.Tensor]:
        target = self.folder / artifact.digest[7:]
        self.store.get_dir(artifact, target)
        (file,) = target.glob("*.safetensors")
        weights: dict[str, torch.Tensor] = load_file(file)
        return weights


@pytest.fixture(scope="session")
def jobs(store: ArtifactStore, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(store, cache, tmp_path_factory.mktemp("forgetting"))


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return float(torch.stack([(one[name] - other[name]).float().pow(2).sum() for name in one]).sum().sqrt())


UNFREEZING = {"gradual_unfreezing": {"steps_per_stage": 1}}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "replay": ("lora", {"replay": {"share": 0.5}}),
    "ewc": ("lora", {"ewc": {"strength": 100.0, "rows": 4}}),
    "l2": ("lora", {"l2": {"strength": 10.0}}),
    "unfreezing": ("lora", UNFREEZING),
    "whole": ("full", {"ewc": {"strength": 100.0, "rows": 4}, "l2": {}, "replay": {}, **UNFREEZING}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_bytes(jobs: Jobs, way: str) -> None:
    method, forgetting = WAYS[way]
    options: dict[str, Any] = {"forgetting": forgetting, "goes_on": method != "full"}
    whole, resumed = jobs.run(jobs.job(method, way, **options)), jobs.resumed(method, f"{way}-stopped", **options)
    assert resumed.adapter.digest == whole.adapter.digest
    plain = jobs.plain(method, goes_on=options["goes_on"])
    assert plain.adapter.digest != whole.adapter.digest, "it had no effect"
    if method == "lora" and way in {"ewc", "l2"}:
        start = jobs.weights(jobs.start(method))
        assert distance(jobs.weights(whole.adapter), start) < distance(jobs.weights(plain.adapter), start)
        assert whole.metrics["penalty"] > 0


@pytest.mark.parametrize("method", [name for name in SHAPES if name != "full"])
def test_a_run_goes_on_from_where_the_adapter_stands(jobs: Jobs, method: str) -> None:
    still = jobs.run(jobs.job(method, "still", learning_rate=STILL, optimizer="sgd"))
    start = jobs.start(method)
    assert distance(jobs.weights(still.adapter), jobs.weights(start)) < 1e-4
    meta = jobs.manifest(still.adapter).meta
    assert still.adapter.digest == start.digest or meta["start_digest"] == start.digest


def test_preferences_are_relative_to_the_start_and_not_to_the_base(jobs: Jobs, tmp_path: Path) -> None:
    rows = [{**row, "rejected": "I do not know"} for row in make_rows("good", 12, seed=6)]
    jobs.start("lora")
    preferred = put_dataset(jobs.store, tmp_path / "preferred", train=rows[:8], validation=rows[8:])
    job = jobs.job("lora", "dpo", objective="dpo", batch_size=8, lora={"rank": 4, "alpha": 8})
    result = jobs.run(job.model_copy(update={"dataset": preferred}))
    # ln 2, the loss of a policy that is its own reference.
    assert result.metrics["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert {file.path for file in jobs.manifest(result.adapter).files} == {
        "adapter_config.json", "adapter_model.safetensors"
    }


def test_what_was_replayed_is_written_down(jobs: Jobs) -> None:
    job = jobs.job("lora", "lineage", forgetting={"replay": {"share": 0.6}})
    result = jobs.run(job)
    meta = jobs.manifest(result.adapter).meta
    said = json.loads(jobs.store.get_bytes(meta["replay"]["ids"]))
    assert (meta["start_digest"], meta["earlier_digest"]) == (jobs.start("lora").digest, jobs.earlier.artifact.digest)
    assert said["earlier"]["digest"] == jobs.earlier.artifact.digest
    assert (len(said["ids"]), meta["replay"]["rows"], meta["replay"]["share"]) == (12, 12, 0.6)
    assert (result.metrics["train_rows"], result.metrics["replayed_rows"]) == (20, 12)
    assert not {"train-0", "train-1"} & set(said["ids"]), "these prompts are in the new test split"


def test_layers_that_never_joined_did_not_move(jobs: Jobs) -> None:
    result = jobs.run(jobs.job("lora", "waiting", forgetting={"gradual_unfreezing": {"steps_per_stage": 9}}))
    start, ended = jobs.weights(jobs.start("lora")), jobs.weights(result.adapter)
    moved = {name.split(".layers.")[1].split(".")[0] for name in start if not torch.equal(start[name], ended[name])}
    assert moved == {str(max(int(name.split(".layers.")[1].split(".")[0]) for name in start))}
    assert 0 < result.metrics["trained_share"] < 1


@pytest.mark.parametrize(("method", "changes", "message"), [
    ("lora", {"lora": {"rank": 8, "alpha": 8}}, r"training.lora.rank is 8, and that of the adapter 4"),
    ("lora", {"lora": {"rank": 4, "alpha": 99}}, r"training.lora.alpha is 99, and that of the adapter 8"),
    ("adapter", {"bottleneck": 16}, r"training.bottleneck is 16, and that of the adapter 8"),
    ("prompt", {"virtual_tokens": 5}, r"training.virtualTokens is 5, and that of the adapter 4"),
])
def test_a_start_of_another_shape_is_refused(
    jobs: Jobs, method: str, changes: dict[str, Any], message: str
) -> None:
    job = jobs.job(method, f"shape-{message[9:15]}", **changes)
    with pytest.raises(InvalidInputError, match=f"{message}.* remove training.startFrom"):
        run_job(job, jobs.store, jobs.cache, threading.Event())


def test_a_start_that_is_no_adapter_is_refused(jobs: Jobs) -> None:
    job = jobs.job("lora", "none").model_copy(update={"start": jobs.new.artifact})
    with pytest.raises(InvalidInputError, match="is no adapter that this trainer made"):
        run_job(job, jobs.store, jobs.cache, threading.Event())


def test_weights_are_not_held_while_there_is_nothing_to_keep(jobs: Jobs) -> None:
    job = jobs.job("lora", "first", goes_on=False, forgetting={"l2": {}}).model_copy(update={"earlier": None})
    assert "penalty" not in jobs.run(job).metrics
