"""What the demo's three datasets must lead to, whatever serves the models."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from services.cli.demo.story import Chapter, Setting, Story
from tests.support.stack import Stack

# More of the demo's pipeline, under `spec`.
WATCHED = """
  capture: {share: 1}
  triggers: {onDrift: {windowSamples: 50}}
"""


@dataclass(frozen=True)
class Told:
    """A stack on which the story was told.

    Attributes:
        since: when it began, Unix time.
    """

    stack: Stack
    chapters: Sequence[Chapter]
    since: float


def tell_three_datasets(stack: Stack, setting: Setting) -> None:
    """The whole loop thrice: promoted, stopped by its gate, rolled back."""
    assert_the_story_ended_well(stack, _tell(setting))


def tell_and_watch(stack: Stack, folder: Path) -> Told:
    """The same, with samples taken of all requests; and afterwards what the demo's users do not do."""
    since, setting = time.time(), stack.setting(folder)
    watched = folder / "watched.yaml"
    watched.write_text(setting.pipeline_file.read_text() + WATCHED)
    chapters = _tell(replace(setting, pipeline_file=watched))
    ask_in_other_ways(stack, _route(chapters))
    return Told(stack, chapters, since)


def _tell(setting: Setting) -> list[Chapter]:
    story = Story(setting, say=lambda _: None)
    story.apply()
    return [story.good(), story.shifted(), story.faulty()]


def ask_in_other_ways(stack: Stack, route: str) -> None:
    """Streams, thumbs up and down, and a route that is not there."""
    with httpx.Client(base_url=stack.url("gateway"), trust_env=False, timeout=60) as client:
        for number in range(8):
            body = {"model": route, "messages": [{"role": "user", "content": f"question {number}"}], "max_tokens": 8}
            answer = client.post("/v1/chat/completions", json={**body, "stream": True})
            assert answer.status_code == 200, answer.text
            verdict = {"request_id": answer.headers["x-tuneloop-request-id"], "label": "down" if number % 2 else "up"}
            assert client.post("/v1/feedback", json=verdict).status_code == 202
            assert client.post("/v1/chat/completions", json={**body, "model": "nobody"}).status_code == 404


def _route(chapters: Sequence[Chapter]) -> str:
    model = chapters[0].loop.model
    assert model is not None
    return str(model["model_version"]).partition("@")[0]


def assert_the_story_ended_well(stack: Stack, chapters: Sequence[Chapter]) -> None:
    """What the three datasets must lead to."""
    promoted, shifted, faulty = chapters
    route = _route(chapters)

    # 1: it learned, it was measured to be better, and it is what clients get now.
    measured = {(m["subject"], m["on"]): m["metrics"]["exact_match"] for m in promoted.loop.evaluation["measurements"]}  # type: ignore[index]
    assert measured["candidate", "heldout"] >= measured["base", "heldout"] + 0.5
    assert promoted.rollout is not None
    assert promoted.rollout["phase"] == "promoted"
    assert promoted.tally is not None
    assert promoted.tally.requests[f"{route}@1"] > 0
    assert promoted.tally.failures.total() == 0

    # 2: good on its own wrong labels, bad where production is good, never served.
    measured = {(m["subject"], m["on"]): m["metrics"]["exact_match"] for m in shifted.loop.evaluation["measurements"]}  # type: ignore[index]
    assert measured["candidate", "production_heldout"] < measured["production", "production_heldout"] - 0.5
    assert shifted.loop.model is None

    # 3: rolled back by the error guardrail, with its evidence and its victims counted.
    assert faulty.rollout is not None
    assert (faulty.rollout["phase"], faulty.rollout["guardrail"]) == ("rolled_back", "errors")
    assert faulty.rollout["users_exposed"] > 0
    assert faulty.rollout["seconds_exposed"] > 0
    with stack.service("registry") as registry:
        stages = {item["model_version"]: item["stage"] for item in registry.get("models")["items"]}
    assert stages == {f"{route}@1": "production", f"{route}@2": "rolled_back"}

    # Afterwards everybody gets production, and the lineage leads back to the uploaded bytes.
    answer = httpx.post(
        f"{stack.url('gateway')}/v1/chat/completions", trust_env=False, timeout=30,
        json={"model": route, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4},
    )
    assert answer.status_code == 200
    assert answer.headers["x-tuneloop-model-version"] == f"{route}@1"
    with stack.service("registry") as registry:
        lineage = registry.get("models", f"{route}@1", "lineage")
    assert lineage["dataset"]["source_sha256"].startswith("sha256:")
    assert lineage["run"]["dataset_digest"] == lineage["dataset"]["artifact_digest"]
