"""A user who meets several gateways, and one that restarts, is one user to the controller."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.rollout.handlers import handlers
from services.rollout.met_units import counts_of, forget
from services.rollout.models import Route
from shared.db import reading, transaction
from shared.events import CountedEvent, Event, MetUnits, Topic, UnitsMet
from shared.messaging.topics import create_topics
from tests.support.broker import start_tansu
from tests.support.delivery import START, deliver, fact
from tests.support.gateway_process import GatewayProcess, running_gateway, running_model_server
from tests.support.routes import BASE_MODEL, canary, loaded, ready
from tests.support.topics import events_on, publish
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

ERRORS = CountedEvent(event="errors")
JUDGEMENTS = [CountedEvent(event="judged"), CountedEvent(event="thumbs_down")]
USER = "ada@example.com"


def fail_twice(gateway: GatewayProcess) -> set[str]:
    """The versions that the user met there, once the controller has been told of it."""
    eventually(lambda: gateway.metric("route_replicas", route="r", model_version="r@1", role="candidate") == 1)
    answers = [gateway.chat("r", "status 500", headers={"x-tuneloop-unit": USER}) for _ in range(2)]
    eventually(lambda: gateway.metric("units_told_total") == 1, what="the user to be told of")
    return {answer.headers["x-tuneloop-model-version"] for answer in answers}


def counts(engine: Engine) -> dict[tuple[str, str], int]:
    with reading(engine) as session:
        return dict(counts_of(session, ["r"]).get("r", {}))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_one_user_at_two_gateways_and_at_one_that_restarted_is_one(engine: Engine, tmp_path: Path) -> None:
    with transaction(engine) as session:
        session.add(Route(id="r", pipeline="r", base_model=BASE_MODEL, salt="salt", rollout_id="r-r1", updated_at=START,
                          counted=[ERRORS.model_dump(mode="json")]))
    route = canary("r", None, "r@1", 5_000).model_copy(update={"counted": [ERRORS]})
    with start_tansu() as kafka, running_model_server(BASE_MODEL, "r@1") as url:
        create_topics(kafka)
        publish(kafka, route, ready("gpu", url), loaded("gpu", url, "r@1"))
        with running_gateway(tmp_path / "two", KAFKA_BOOTSTRAP=kafka) as two:
            versions = fail_twice(two)
            # This one stops and starts again, and does not remember whom it has met.
            for _ in range(2):
                with running_gateway(tmp_path / "one", KAFKA_BOOTSTRAP=kafka) as one:
                    versions |= fail_twice(one)
        events = events_on(kafka, Topic.UNITS)
    assert len(events) == 3
    assert USER not in "".join(event.data.model_dump_json() for event in events)
    deliver(engine, handlers, *events)
    [version] = versions
    assert counts(engine) == {(version, "errors x1"): 1}


def follow(gateway: GatewayProcess) -> None:
    """Wait until it knows the candidate, and hears what is said at other gateways."""
    eventually(lambda: gateway.metric("route_replicas", route="r", model_version="r@1", role="candidate") == 1)
    eventually(lambda: "following feedback" in gateway.log(), what="the gateway to follow feedback")


def ask(gateway: GatewayProcess, request: str) -> str:
    """The version that answers the user there."""
    answer = gateway.chat("r", "hello", headers={"x-tuneloop-unit": USER, "x-request-id": request})
    assert answer.status_code == 200
    return answer.headers["x-tuneloop-model-version"]


def judge(gateway: GatewayProcess, request: str, version: str) -> None:
    said = {"request_id": request, "label": "down", "model_version": version, "route": "r"}
    assert gateway.client.post("/v1/feedback", json=said).status_code == 202


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_user_who_judges_everything_badly_is_one_whichever_gateways_answer_and_hear_it(
    engine: Engine, tmp_path: Path,
) -> None:
    with transaction(engine) as session:
        session.add(Route(id="r", pipeline="r", base_model=BASE_MODEL, salt="salt", rollout_id="r-r1", updated_at=START,
                          counted=[each.model_dump(mode="json") for each in JUDGEMENTS]))
    route = canary("r", None, "r@1", 5_000).model_copy(update={"counted": JUDGEMENTS})
    with start_tansu() as kafka, running_model_server(BASE_MODEL, "r@1") as url:
        create_topics(kafka)
        publish(kafka, route, ready("gpu", url), loaded("gpu", url, "r@1"))
        with (running_gateway(tmp_path / "one", KAFKA_BOOTSTRAP=kafka) as one,
              running_gateway(tmp_path / "two", KAFKA_BOOTSTRAP=kafka) as two):
            follow(one)
            follow(two)
            version = ask(one, "first")
            judge(two, "first", version)
            eventually(lambda: one.metric("units_told_total") == 2, what="the one who knows the user to tell of it")
            assert two.metric("units_told_total") == 0
            assert ask(two, "second") == version
            for _ in range(2):
                judge(two, "second", version)
            eventually(lambda: two.metric("units_told_total") == 2, what="the user to be told of by the other")
            bad = [gateway.metric("feedback_total", route="r", model_version=version, verdict="bad")
                   for gateway in (one, two)]
        events = events_on(kafka, Topic.UNITS)
    assert bad == [0, 2]
    deliver(engine, handlers, *events)
    assert counts(engine) == {(version, "judged x1"): 1, (version, "thumbs_down x1"): 1}


def test_a_unit_is_served_once_by_each_version_and_new_once_unless_it_was_met_before_the_split_changed(
    engine: Engine,
) -> None:
    with transaction(engine) as session:
        session.add(Route(id="r", pipeline="r", base_model=BASE_MODEL, salt="salt", rollout_id="r-r1", updated_at=START,
                          counted=[CountedEvent(event="served").model_dump(mode="json")]))

    def told(second: float, version: str, *units: str) -> Event[Any]:
        met = MetUnits(model_version=version, event="served", times=1, units=list(units))
        return fact(UnitsMet(route="r", salt="salt", met=[met]), time=START + timedelta(seconds=second))

    deliver(engine, handlers, told(60, "base", "a", "b"), told(61, "base", "b", "c"), told(62, "r@1", "c", "d"),
            told(-600, "r@1", "e"), told(1, "base", "f"), told(63, "base", "e", "d"))
    assert counts(engine) == {
        ("base", "served x1"): 6, ("base", "new x1"): 3, ("r@1", "served x1"): 3, ("r@1", "new x1"): 1,
    }


def test_counts_are_of_the_present_split_only_and_go_with_it(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(Route(id="r", pipeline="r", base_model=BASE_MODEL, salt="salt", rollout_id="r-r1", updated_at=START,
                          counted=[]))

    def told(salt: str, version: str, *units: str) -> UnitsMet:
        met = MetUnits(model_version=version, event="latency", seconds=2.5, times=1, units=list(units))
        return UnitsMet(route="r", salt=salt, met=[met])

    deliver(engine, handlers, fact(told("salt", "r@1", "a", "b", "a")), fact(told("old", "r@1", "c")),
            fact(told("salt", "base", "b", "d")))
    assert counts(engine) == {("r@1", "latency>2.5 x1"): 2, ("base", "latency>2.5 x1"): 1}
    with transaction(engine) as session:
        forget(session, "r")
        route = session.get(Route, "r")
        assert route is not None
        route.counted = None
    deliver(engine, handlers, fact(told("salt", "r@1", "e")))
    assert counts(engine) == {}
