"""Following a dataset through the whole loop, as the registry tells it. `judge` is pure; `observe` asks."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from services.cli import words
from services.cli.client import Json, Service
from services.cli.output import rows
from services.cli.views import run_line


@dataclass(frozen=True)
class Loop:
    """What is known about a dataset's way to production; None for what has not happened (or arrived) yet.

    Attributes:
        trains: whether the pipeline trains by itself when a dataset was prepared.
    """

    dataset: Json | None = None
    run: Json | None = None
    evaluation: Json | None = None
    model: Json | None = None
    rollout: Json | None = None
    trains: bool = True


@dataclass(frozen=True)
class Verdict:
    """Whether the loop has ended, and how."""

    ended: bool
    well: bool
    message: str


def observe(registry: Service, dataset_id: str) -> Loop:
    """Ask the registry for everything that came of a dataset."""
    dataset = registry.find("datasets", dataset_id)
    if dataset is None or dataset["state"] != "prepared":
        return Loop(dataset)
    spec = registry.get("pipelines", dataset["pipeline"])["spec"]
    run = _run_of(registry, dataset)
    evaluation = _newest(registry, "evaluations", run_id=run["id"]) if run else None
    model = _newest(registry, "models", evaluation_id=evaluation["id"]) if evaluation else None
    rollout = registry.get("models", model["model_version"], "lineage")["rollout"] if model else None
    return Loop(dataset, run, evaluation, model, rollout, trains=spec["triggers"]["onDataset"])


def _run_of(registry: Service, dataset: Json) -> Json | None:
    """The run that learned from a dataset's content, which an earlier publication of the same rows may have started.

    A run that failed before it started names no dataset; it is found by the loop that it belongs to.
    """
    run = _newest(registry, "runs", pipeline=dataset["pipeline"], dataset_digest=dataset["artifact_digest"])
    if run is not None and run["pipeline_version"] >= dataset["pipeline_version"]:
        return run
    return _newest(registry, "runs", pipeline=dataset["pipeline"], correlation_id=dataset["correlation_id"])


def _newest(registry: Service, kind: str, **filters: str | int | None) -> Json | None:
    items = registry.get(kind, limit=1, **filters)["items"]
    return items[0] if items else None


def judge(loop: Loop) -> Verdict:
    """How far the loop is, in one sentence, and whether it has ended."""
    if loop.rollout is not None and loop.model is not None:
        return _rollout(loop.model, loop.rollout)
    if loop.model is not None:
        return _goes_on(f"{loop.model['model_version']} is registered; waiting for its rollout")
    if loop.evaluation is not None:
        return _evaluation(loop.evaluation)
    if loop.run is not None:
        return _run(loop.run)
    return _dataset(loop)


def _goes_on(message: str) -> Verdict:
    return Verdict(ended=False, well=False, message=message)


def _ended(message: str, *, well: bool) -> Verdict:
    return Verdict(ended=True, well=well, message=message)


def _dataset(loop: Loop) -> Verdict:
    if loop.dataset is None:
        return _goes_on("waiting for the registry to hear of the dataset")
    if loop.dataset["state"] == "rejected":
        return _ended(f"the dataset was rejected: {loop.dataset['reason']}", well=False)
    if loop.dataset["state"] != "prepared":
        return _goes_on("the dataset is being prepared")
    if loop.trains:
        return _goes_on("the dataset is prepared; waiting for a training run")
    return _ended("the dataset is prepared; no run follows, as triggers.onDataset is off in its pipeline", well=True)


def _run(run: Json) -> Verdict:
    if run["state"] == "failed":
        return _ended(f"run {run['id']} failed: {run['reason']}", well=False)
    if run["state"] == "pending":
        return _goes_on(f"run {run['id']} waits for its next attempt: {run['reason']}")
    if run["state"] == "running":
        return _goes_on(f"training: {run_line(run)}")
    return _goes_on("the adapter is trained; it is being evaluated")


def _evaluation(evaluation: Json) -> Verdict:
    if evaluation["state"] == "refused":
        return _ended(f"the adapter did not pass its gates: {evaluation['reason']}", well=False)
    if evaluation["state"] == "failed":
        return _ended(f"evaluation {evaluation['id']} failed: {evaluation['reason']}", well=False)
    return _goes_on("the adapter passed its gates; it is being registered")


def _rollout(model: Json, rollout: Json) -> Verdict:
    name, phase, why = model["model_version"], rollout["state"], rollout["reason"]
    if phase == "promoted":
        return _ended(f"{name} is in production: {why}", well=True)
    if phase in ("rolled_back", "superseded"):
        return _ended(f"{name} was {phase.replace('_', ' ')}: {why}", well=False)
    return _goes_on(f"{name}: {phase} at {words.share(rollout['weight'])}: {why}")


def to_json(loop: Loop) -> Json:
    """The loop for scripts."""
    parts = asdict(loop)
    del parts["trains"]
    return parts


def view(loop: Json) -> RenderableType:
    """The loop for people: a line per part that exists, and what happens now."""
    parts: list[tuple[str, Any]] = [
        ("dataset", loop["dataset"]), ("run", loop["run"]), ("evaluation", loop["evaluation"]),
        ("model version", loop["model"]), ("rollout", loop["rollout"]),
    ]
    table = rows([{"part": name, **part} for name, part in parts if part], {
        "PART": lambda i: i["part"],
        "ID": lambda i: i.get("id") or i["model_version"],
        "STATE": lambda i: words.state(i.get("state") or i["stage"]),
        "WHY": lambda i: i.get("reason") or i.get("stage_reason") or "-",
    }, empty="")
    return Group(table, Text(loop.get("now", "")))
