"""What the demo's three datasets must lead to, whatever serves the models."""

import httpx

from services.cli.demo.story import Setting, Story
from tests.support.stack import Stack


def tell_three_datasets(stack: Stack, setting: Setting) -> None:
    """The whole loop thrice: promoted, stopped by its gate, rolled back."""
    story = Story(setting, say=lambda _: None)
    story.apply()
    promoted = story.good()
    shifted = story.shifted()
    faulty = story.faulty()

    # 1: it learned, it was measured to be better, and it is what clients get now.
    measured = {(m["subject"], m["on"]): m["metrics"]["exact_match"] for m in promoted.loop.evaluation["measurements"]}  # type: ignore[index]
    assert measured["candidate", "heldout"] >= measured["base", "heldout"] + 0.5
    assert promoted.rollout is not None
    assert promoted.rollout["phase"] == "promoted"
    assert promoted.tally is not None
    assert promoted.tally.requests[f"{story.route}@1"] > 0
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
    assert stages == {f"{story.route}@1": "production", f"{story.route}@2": "rolled_back"}

    # Afterwards everybody gets production, and the lineage leads back to the uploaded bytes.
    answer = httpx.post(
        f"{stack.url('gateway')}/v1/chat/completions", trust_env=False, timeout=30,
        json={"model": story.route, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4},
    )
    assert answer.status_code == 200
    assert answer.headers["x-tuneloop-model-version"] == f"{story.route}@1"
    lineage = story.lineage(f"{story.route}@1")
    assert lineage["dataset"]["source_sha256"].startswith("sha256:")
    assert lineage["run"]["dataset_digest"] == lineage["dataset"]["artifact_digest"]
