"""The demo's three chapters, each a dataset that is published and what becomes of it.

Nothing here knows how it must end: the story does to the running system what a person would do, through the services'
own APIs, and reads the outcome from them. `UnexpectedError` is raised where the system did not do what it promises.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import RenderableType
from rich.text import Text

from services.cli import follow, rollout_views, words
from services.cli.client import Json, Service
from services.cli.commands.rollout_report import fetch
from services.cli.demo.data import Kind, make_rows
from services.cli.demo.traffic import Tally, Traffic
from services.cli.watch import watch
from shared.clock import SystemClock
from shared.errors import TuneloopError
from shared.pipeline import Pipeline, parse_pipeline

# Of the third candidate's requests; far from certain death, so that the evidence has to be gathered.
FAULT_SHARE = 0.4
SEEDS: dict[Kind, int] = {"good": 1, "shifted": 2, "fresh": 3}


class UnexpectedError(TuneloopError):
    """The system did not do what the story is about."""


@dataclass(frozen=True)
class Chapter:
    """What became of one dataset, as the services told it.

    Attributes:
        loop: dataset, run, evaluation, model and rollout, as the registry knows them.
        rollout: as the rollout controller knows it, with its guardrails; None where it never got that far.
        decisions: of that rollout, newest first.
        tally: what the users saw meanwhile.
    """

    title: str
    loop: follow.Loop
    rollout: Json | None = None
    decisions: Sequence[Json] = ()
    tally: Tally | None = None


@dataclass(frozen=True)
class Setting:
    """Where the story takes place.

    Attributes:
        urls: base URL by service.
        rows: rows per dataset.
        rate: requests per second while a canary runs.
    """

    urls: dict[str, str]
    pipeline_file: Path
    folder: Path
    rows: int
    rate: float

    def service(self, name: str) -> Service:
        return Service(name, self.urls[name])


class Story:
    """Tells the chapters one after the other.

    Args:
        say: prints a line for people.
    """

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self._setting = setting
        self._say = say
        self._pipeline: Pipeline = parse_pipeline(setting.pipeline_file.read_text(), source=str(setting.pipeline_file))

    @property
    def route(self) -> str:
        return self._pipeline.route

    def apply(self) -> None:
        """`tuneloop apply pipeline.yaml`."""
        self._say(f"[dim]$ tuneloop apply {self._setting.pipeline_file.name}[/]")
        with self._setting.service("registry") as registry:
            answer = registry.send("pipelines", content=self._setting.pipeline_file.read_bytes(),
                                   headers={"content-type": "application/yaml"})
        self._say(f"pipeline [bold]{answer['name']}[/] version {answer['version']}")

    def good(self) -> Chapter:
        """Right labels: trained, better than the base model, promoted."""
        loop, questions = self._publish_and_evaluate("good")
        return self._canary("right labels", loop, questions, expected="promoted")

    def shifted(self) -> Chapter:
        """Wrong labels, consistently: it learns them well, and the gate against production stops it."""
        loop, _ = self._publish_and_evaluate("shifted")
        if loop.evaluation is None or loop.evaluation["state"] != "refused" or loop.model is not None:
            raise UnexpectedError(f"the gates should have refused the wrong labels, but: {follow.judge(loop).message}")
        return Chapter("wrong labels", loop)

    def faulty(self) -> Chapter:
        """Right labels, passes the gates, and then fails in production: rolled back."""
        loop, questions = self._publish_and_evaluate("fresh")
        model = self._model_of(loop)
        body = {"model": model["model_version"], "error_rate": FAULT_SHARE, "latency_seconds": 0, "seed": 1}
        httpx.post(f"{self._setting.urls['engine']}/v1/test/faults", json=body, trust_env=False).raise_for_status()
        self._say(f"fault hook: the model server will fail {FAULT_SHARE:.0%} of {model['model_version']}'s requests")
        return self._canary("fails in production", loop, questions, expected="rolled_back")

    def lineage(self, model_version: str) -> Json:
        """Everything that a model version was made from."""
        with self._setting.service("registry") as registry:
            return registry.get("models", model_version, "lineage")

    def _publish_and_evaluate(self, kind: Kind) -> tuple[follow.Loop, list[dict[str, Any]]]:
        """Publish a dataset and follow it until its evaluation has ended in a model version, or not."""
        rows = make_rows(kind, self._setting.rows, SEEDS[kind])
        file = self._setting.folder / f"{kind}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._say(f"[dim]$ tuneloop publish {file.name} --pipeline {self._pipeline.metadata.name}[/]")
        with self._setting.service("data_ingest") as ingest:
            answer = ingest.send("datasets", content=file.read_bytes(), pipeline=self._pipeline.metadata.name,
                                 format="jsonl", name=file.name, headers={"content-type": "application/octet-stream"})
        with self._setting.service("registry") as registry:
            end = watch(
                lambda: _fetch(registry, answer["dataset_id"]), view=follow.view, line=lambda item: str(item["now"]),
                done=lambda item: bool(item["ended"] or item["model"]), exists=True,
            )
            loop = follow.observe(registry, end["dataset"]["id"])
        if loop.evaluation is None:
            raise UnexpectedError(follow.judge(loop).message)
        return loop, make_rows("good", 200, seed=99)

    def _canary(
        self, title: str, loop: follow.Loop, questions: Sequence[dict[str, Any]], *, expected: str
    ) -> Chapter:
        """Send traffic until the rollout has ended."""
        model = self._model_of(loop)
        dataset_id = model["dataset"]["dataset_id"]
        with (
            self._setting.service("rollout") as controller, self._setting.service("registry") as registry,
            Traffic(self._setting.urls["gateway"], self.route, questions, rate=self._setting.rate) as traffic,
        ):
            end = watch(
                lambda: _rollout_of(controller, model["model_version"]), view=_rollout_view, line=_rollout_line,
                done=lambda item: item["phase"] in rollout_views.FINAL, exists=True,
            )
            # The registry learns it as an event, a moment after the controller has decided.
            watch(lambda: _fetch(registry, dataset_id), view=follow.view, line=lambda item: str(item["now"]),
                  done=lambda item: bool(item["ended"]), exists=True)
            loop = follow.observe(registry, dataset_id)
            end, decisions = fetch(controller, end["id"])
        if end["phase"] != expected:
            raise UnexpectedError(
                f"{model['model_version']} should have been {expected}, but is {end['phase']}: {end['reason']}"
            )
        return Chapter(title, loop, end, decisions, traffic.tally)

    def _model_of(self, loop: follow.Loop) -> Json:
        if loop.model is None:
            raise UnexpectedError(f"no model version was registered: {follow.judge(loop).message}")
        return loop.model


def _fetch(registry: Service, dataset_id: str) -> Json:
    loop = follow.observe(registry, dataset_id)
    verdict = follow.judge(loop)
    return {**follow.to_json(loop), "ended": verdict.ended, "now": verdict.message}


def _rollout_of(controller: Service, model_version: str) -> Json:
    """The newest rollout of a model version; a placeholder until the controller has heard of it."""
    items = controller.get("rollouts", limit=20)["items"]
    found = [item for item in items if item["model_version"] == model_version]
    return found[0] if found else {"phase": "waiting"}


def _rollout_view(item: Json) -> RenderableType:
    return rollout_views.rollout(item, SystemClock().now()) if "id" in item else Text("waiting for the rollout")


def _rollout_line(item: Json) -> str:
    if "id" not in item:
        return "waiting for the rollout"
    evidence = "; ".join(
        f"{g['metric']} {g['candidate']['bad']} bad of {g['candidate']['total']} (stable {g['stable']['bad']} of "
        f"{g['stable']['total']}), e-values: harm {g['e_harm']:.3g}/{g['harm_threshold']:.3g}, "
        f"safe {g['e_safe']:.3g}/{g['safe_threshold']:.3g}"
        for g in item["guardrails"][:1] if g["candidate"]["total"]
    )
    return f"{item['phase']}, step {rollout_views.step(item)}, weight {words.share(item['weight'])}  {evidence}"
