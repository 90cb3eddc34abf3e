"""The whole loop on the real stack: promoted, stopped by its gate, rolled back."""

import json

import pytest

from services.cli.demo.story import Setting, Story
from services.cli.errors import CliError
from tests.support.stack import Stack
from tests.support.story import Told, assert_the_story_ended_well

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def stack(told: Told) -> Stack:
    return told.stack


def test_the_story_in_three_datasets(told: Told) -> None:
    assert_the_story_ended_well(told.stack, told.chapters)


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
