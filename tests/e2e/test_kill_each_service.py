"""SIGKILL each service in the middle of the loop: everything still happens, and exactly once."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from services.cli.demo.story import Chapter, Setting, Story
from services.cli.errors import CliError
from tests.support.stack import Stack
from tests.support.wait import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.timeout(900)]


def items(stack: Stack, service: str, kind: str) -> list[dict[str, Any]]:
    """What a service lists; nothing while it is down."""
    try:
        with stack.service(service) as api:
            return list(api.get(kind)["items"])
    except CliError:
        return []


def reached(stack: Stack, service: str, kind: str, *states: str) -> Callable[[], bool]:
    """Whether something of this kind is in one of these states or phases."""
    return lambda: any((item.get("state") or item.get("phase")) in states for item in items(stack, service, kind))


def test_a_loop_in_which_every_service_dies_once(stack: Stack, setting: Setting) -> None:
    story = Story(setting, say=lambda _: None)
    story.apply()
    told: list[Chapter] = []
    trouble: list[BaseException] = []

    def tell() -> None:
        try:
            told.append(story.good())
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            trouble.append(error)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()

    def at(moment: Callable[[], bool], *victims: str) -> None:
        eventually(lambda: trouble or moment(), timeout=240, what=f"the moment to kill {victims}")
        assert not trouble, trouble
        for victim in victims:
            stack.kill(victim)

    at(reached(stack, "registry", "datasets", "published", "prepared"), "data_ingest")
    at(reached(stack, "trainer", "runs", "running", "completed"), "trainer", "engine", "serving")
    at(reached(stack, "trainer", "runs", "completed"), "evaluator", "registry")
    at(reached(stack, "rollout", "rollouts", "staging", "progressing"), "rollout")
    at(reached(stack, "rollout", "rollouts", "progressing"), "gateway", "rollout", "kafka")
    thread.join(400)
    assert not trouble, trouble
    assert told

    assert told[0].rollout is not None
    assert told[0].rollout["phase"] == "promoted"
    assert [item["state"] for item in items(stack, "registry", "datasets")] == ["prepared"]
    assert [item["state"] for item in items(stack, "trainer", "runs")] == ["completed"]
    assert [item["state"] for item in items(stack, "registry", "runs")] == ["completed"]
    assert [item["stage"] for item in items(stack, "registry", "models")] == ["production"]
    assert [item["phase"] for item in items(stack, "rollout", "rollouts")] == ["promoted"]
    for service in ("registry", "data_ingest", "trainer", "evaluator", "rollout", "serving"):
        with stack.service(service) as api:
            assert api.get("inbox", status="dead")["items"] == [], service
