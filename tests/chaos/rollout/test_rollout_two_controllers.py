"""Two controllers as real processes on one real database: one acts, the other waits, and an old one changes nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.rollout.models import Rollout
from services.rollout.state import RolloutState
from shared.clock import SystemClock
from shared.db import connect, migrate, reading
from tests.support.delivery import said
from tests.support.prometheus import SpeakingPrometheus, speak_prometheus
from tests.support.rollout_stand import MIGRATIONS, Stand
from tests.support.wait import eventually
from tests.support.webhook_receiver import WebhookReceiver, receive
from tests.support.webhook_stand import webhooks

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(280)]

PROGRAM = Path(__file__).parent / "rollout_controller.py"
LEASE_SECONDS = 2.0
STEPS = [{"weight": 20, "minDuration": "3s", "minRequests": 10}, {"weight": 50, "minDuration": "1s", "minRequests": 10}]


# Calls are claimed as looks are, so one database will do: the one for several controllers.
on_postgresql = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path}/rollout.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    made = connect(url)
    migrate(made, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def prometheus() -> Iterator[SpeakingPrometheus]:
    with speak_prometheus() as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with receive() as made:
        yield made


@pytest.fixture
def world(engine: Engine, prometheus: SpeakingPrometheus, receiver: WebhookReceiver) -> Iterator[Stand]:
    """A loaded candidate, and a stand whose own loop does nothing: the processes look, it serves."""
    made = Stand(engine, prometheus, SystemClock())  # type: ignore[arg-type]  # nobody moves it here
    asked = webhooks(receiver, "confirm-rollout", "rollout", "confirm-promotion", "event", secret=None, timeout="3s")
    made.begin(steps=STEPS, interval="200ms", webhooks=asked)
    made.load()
    made.publish()
    yield made
    made.client.close()


class Controller:
    """A process with the loop in it."""

    def __init__(self, engine: Engine, prometheus: SpeakingPrometheus, owner: str, folder: Path) -> None:
        self.owner = owner
        self.log = folder / f"{owner}.log"
        url = engine.url.render_as_string(hide_password=False)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), url, prometheus.url, owner, str(LEASE_SECONDS)], stdout=output,
                stderr=output, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def start(engine: Engine, prometheus: SpeakingPrometheus, tmp_path: Path) -> Iterator[type]:
    """Starts controllers, and ends them with the test."""
    running: list[Controller] = []

    def make(owner: str) -> Controller:
        running.append(Controller(engine, prometheus, owner, tmp_path))
        return running[-1]

    yield make  # type: ignore[misc]
    for controller in running:
        controller.end()


def row_of(world: Stand) -> Rollout:
    with reading(world.engine) as session:
        return session.get_one(Rollout, "intents-r1")


def state_of(world: Stand) -> RolloutState:
    return RolloutState.model_validate(row_of(world).data)


def counted(state: RolloutState) -> int:
    return state.guardrails["errors"].evidence.candidate.total


def serve_until_counted(world: Stand, step: int, requests: int) -> RolloutState:
    """Traffic, until the controllers have counted so many of the candidate's in this step."""

    def probe() -> RolloutState | None:
        world.serve(20)
        state = state_of(world)
        return state if state.step == step and counted(state) >= requests and state.step_seconds > 0 else None

    return eventually(probe, what=f"{requests} requests counted in step {step}")


@contextmanager
def hanging(world: Stand) -> Iterator[str]:
    """Prometheus answers nothing, so that the owner of the lease stands in the middle of a look; its name."""
    world.prometheus.fault = "hang"
    try:
        yield eventually(lambda: row_of(world).lease_owner, what="a look in progress")
    finally:
        world.prometheus.fault = None


def finish(world: Stand) -> None:
    def probe() -> bool:
        world.serve(50)
        return world.phase() == "promoted"

    eventually(probe, what="the promotion")


def weights_of_candidate(world: Stand) -> list[int]:
    return [weights.get("intents@1", -1) for weights in world.weights()]


def test_kill_9_in_the_middle_of_a_step_resumes_it_with_its_clock(world: Stand, start: type) -> None:
    controllers = {owner: start(owner) for owner in ("one", "two")}
    before = serve_until_counted(world, step=1, requests=8)
    with hanging(world) as owner:
        until = row_of(world).lease_until
        # While its owner lives, the lease is renewed, and the other one waits for longer than a lease lasts.
        eventually(lambda: row_of(world).lease_until != until, what="a heartbeat")
        assert row_of(world).lease_owner == owner
        held = state_of(world)
        controllers[owner].send(signal.SIGKILL)
    other = {"one": "two", "two": "one"}[owner]
    after = eventually(
        lambda: now if (now := state_of(world)).looked_at != held.looked_at else None,
        what="the other's look",
    )
    assert (after.step, after.since, after.started_at) == (held.step, before.since, before.started_at)
    assert after.step_seconds >= held.step_seconds >= before.step_seconds > 0
    assert counted(after) >= counted(held) >= counted(before) >= 8
    finish(world)
    assert controllers[other].process.poll() is None
    assert weights_of_candidate(world) == [-1, 0, 2000, 5000, 10_000, 10_000]
    assert counted(state_of(world)) <= sum(world.counters["intents@1"])


def test_a_stopped_leader_that_wakes_up_changes_nothing(world: Stand, start: type) -> None:
    first = start("one")
    serve_until_counted(world, step=1, requests=4)
    with hanging(world):
        first.send(signal.SIGSTOP)
    start("two")
    finish(world)
    facts, row = said(world.engine), row_of(world).model_dump()
    first.send(signal.SIGCONT)
    eventually(lambda: "the lease is lost; this look is dropped" in first.log.read_text(),
               what="the old leader to notice")
    first.send(signal.SIGTERM)
    assert first.process.wait(30) == 0
    assert said(world.engine) == facts
    assert row_of(world).model_dump() == row


@on_postgresql
def test_a_call_in_the_air_when_its_caller_dies_is_made_again_with_the_same_id(
    world: Stand, start: type, receiver: WebhookReceiver
) -> None:
    receiver.answers["/confirm-rollout"] = ["hang", 200]
    first = start("one")
    [lost] = receiver.wait_for("/confirm-rollout")
    first.send(signal.SIGKILL)
    start("two")
    _, again = receiver.wait_for("/confirm-rollout", 2)
    assert (again.headers["webhook-id"], again.body) == (lost.headers["webhook-id"], lost.body)
    finish(world)
    assert len(receiver.got("/confirm-rollout")) == 2
    assert weights_of_candidate(world) == [-1, 0, 2000, 5000, 10_000, 10_000]


@on_postgresql
def test_of_two_controllers_one_makes_each_call(world: Stand, start: type, receiver: WebhookReceiver) -> None:
    start("one")
    start("two")
    finish(world)
    events = receiver.wait_for("/event", 5)
    assert [call.json["data"]["event"] for call in events].count("rollout.promoted.v1") == 1
    ids = [call.headers["webhook-id"] for call in receiver.received]
    assert len(set(ids)) == len(ids) > 10
