"""The whole loop on the real stack: promoted, stopped by its gate, rolled back."""

import json

import httpx
import pytest

from services.cli.demo.story import Setting, Story
from services.cli.errors import CliError
from tests.support.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_the_story_in_three_datasets(stack: Stack, setting: Setting) -> None:
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


def test_bad_datasets_are_refused_with_reasons_and_nothing_follows(stack: Stack, setting: Setting) -> None:
    story = Story(setting, say=lambda _: None)
    story.apply()
    good_row = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    for name, content, expected in (
        ("broken.jsonl", b'{"messages": [\n' * 30, "not JSON"),
        ("latin1.jsonl", (good_row + "\n").encode() * 3 + b'{"prompt": "caf\xe9"}\n', "UTF-8"),
        ("huge-row.jsonl", b'{"prompt": "' + b"x" * 5_000_000 + b'", "completion": "y"}\n', "row 1"),
    ):
        dataset_id = upload(stack, story, name, content)
        dataset = stack.dataset_after(dataset_id)
        assert dataset["state"] == "rejected", name
        assert expected in dataset["reason"], name
        with stack.service("registry") as registry:
            assert registry.get("runs", dataset_id=dataset_id)["items"] == []


def test_an_upload_without_a_byte_is_refused_at_the_door(stack: Stack, setting: Setting) -> None:
    story = Story(setting, say=lambda _: None)
    story.apply()
    with stack.service("registry") as registry:
        before = registry.get("datasets")["items"]
    with pytest.raises(CliError, match="the upload is empty"):
        upload(stack, story, "empty.jsonl", b"")
    with stack.service("registry") as registry:
        assert registry.get("datasets")["items"] == before


def upload(stack: Stack, story: Story, name: str, content: bytes) -> str:
    """Publish a dataset as the command line does; its id."""
    with stack.service("data_ingest") as ingest:
        answer = ingest.send("datasets", content=content, pipeline=story.route, format="jsonl", name=name,
                             headers={"content-type": "application/octet-stream"})
    return str(answer["dataset_id"])
