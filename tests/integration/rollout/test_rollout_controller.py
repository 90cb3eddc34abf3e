"""Handlers, loop, route table and events together, on SQLite and PostgreSQL, with a real HTTP client to Prometheus."""

from datetime import timedelta
from typing import Any

import pytest

from services.rollout.models import Rollout
from services.rollout.state import RolloutState
from shared.db import reading, transaction
from shared.leases import claim
from tests.support.delivery import said, unhandled
from tests.support.metrics import risen, shown
from tests.support.rollout_stand import (
    Stand,
    adapter_failed,
    adapter_loaded,
    model_registered,
    pipeline_applied,
    replica_ready,
)

pytestmark = pytest.mark.integration


def test_the_bare_base_model_serves_from_the_first_sight_of_a_pipeline(controller: Stand) -> None:
    controller.hear(pipeline_applied())
    controller.hear(pipeline_applied())
    controller.hear(pipeline_applied(version=2))
    assert controller.weights() == [{"base": 10_000}]
    assert controller.route()["revision"] == 1
    controller.hear(pipeline_applied(version=3, base_model="other"))
    assert (controller.route()["revision"], controller.route()["base_model"]) == (2, "other")


def test_what_is_captured_reaches_the_route_at_once_and_stays_through_a_rollout(controller: Stand) -> None:
    controller.hear(pipeline_applied())
    assert controller.route()["capture"] is None
    rules = {"share": 0.25, "maxBytes": 2048, "redact": False}
    controller.hear(pipeline_applied(version=2, capture=rules))
    controller.hear(pipeline_applied(version=3, capture=rules, interval="7s"))
    captured = {"share": 0.25, "max_bytes": 2048, "redact": False}
    assert (controller.route()["revision"], controller.route()["capture"]) == (2, captured)
    controller.begin(version=4, capture=rules)
    controller.look()
    assert [route["capture"] for route in controller.told("route.updated.v1")][-1] == captured
    controller.hear(pipeline_applied(version=5))
    assert controller.told("route.updated.v1")[-1]["capture"] is None
    assert controller.weights()[-1] == {"base": 10_000, "intents@1": 0}, "the candidate stays where it was"


def test_a_good_version_is_promoted_in_steps(controller: Stand) -> None:
    controller.begin()
    controller.look()
    assert controller.weights() == [{"base": 10_000}, {"base": 10_000, "intents@1": 0}]
    controller.hear(adapter_loaded("gpu-0"))
    controller.run(3)
    assert controller.phase() == "staging"
    controller.hear(adapter_loaded("gpu-1"))
    controller.run(60)
    assert controller.phase() == "promoted"
    assert controller.weights()[2:] == [
        {"base": 8000, "intents@1": 2000}, {"base": 5000, "intents@1": 5000},
        {"base": 0, "intents@1": 10_000}, {"intents@1": 10_000},
    ]
    [promoted] = controller.told("rollout.promoted.v1")
    assert (promoted["model_version"], promoted["previous"]) == ("intents@1", None)
    assert promoted["evidence"]["errors.e_safe"] >= 20
    phases = [(data["phase"], data["step"], data["weight"]) for data in controller.told("rollout.progressed.v1")]
    assert phases == [("staging", 0, 0), ("progressing", 1, 2000), ("progressing", 2, 5000), ("promoting", 2, 10_000)]
    revisions = [data["revision"] for data in controller.told("route.updated.v1")]
    assert revisions == list(range(1, len(revisions) + 1))
    assert unhandled(controller.engine) == {}


def test_a_bad_version_is_rolled_back_with_its_evidence(controller: Stand) -> None:
    ended = shown("tuneloop_rollout_duration_seconds_count", route="intents", outcome="rolled_back")
    controller.begin()
    controller.load()
    controller.bad_share = 0.4
    controller.run(40)
    assert controller.phase() == "rolled_back"
    assert risen("tuneloop_rollout_duration_seconds_count", ended, route="intents", outcome="rolled_back") == 1
    decided = shown("tuneloop_rollout_decided_timestamp_seconds", route="intents", action="rollback", rule="e_harm")
    assert decided == controller.decisions()[-1].at.timestamp()
    [told] = controller.told("rollout.rolled_back.v1")
    assert told["guardrail"] == "errors"
    assert told["evidence"]["e_harm"] >= told["evidence"]["harm_threshold"] == 20
    assert told["evidence"]["candidate_bad"] > 0
    assert 0 < told["seconds_exposed"] <= 20
    assert told["users_exposed"] == sum(controller.counters["intents@1"]), "each request is a user of its own"
    assert controller.weights()[-2:] == [{"base": 10_000, "intents@1": 0}, {"base": 10_000}]
    last = controller.decisions()[-1]
    assert (last.action, last.rule, last.verdict) == ("rollback", "e_harm", "harmful")
    assert last.evidence["errors"]["candidate_bad"] == told["evidence"]["candidate_bad"]


def test_the_next_version_is_compared_with_the_one_before(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.run(60)
    first_salt = controller.route()["salt"]
    controller.hear(model_registered(2))
    controller.load(2)
    controller.run(60)
    assert controller.phase("intents-r2") == "promoted"
    assert controller.weights()[-1] == {"intents@2": 10_000}
    assert controller.told("rollout.promoted.v1")[1]["previous"] == "intents@1"
    assert controller.route()["salt"] != first_salt
    with reading(controller.engine) as session:
        row = session.get(Rollout, "intents-r2")
        assert row is not None
        assert row.stable == "intents@1"


def test_a_newer_version_supersedes_the_one_in_flight_and_only_then_begins(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.run(12)
    controller.hear(model_registered(2))
    controller.load(2)
    controller.run(60)
    assert (controller.phase(), controller.phase("intents-r2")) == ("superseded", "promoted")
    both = [weights for weights in controller.weights() if {"intents@1", "intents@2"} <= weights.keys()]
    assert both == []
    at = controller.weights().index({"base": 10_000, "intents@2": 0})
    assert controller.weights()[at - 2 : at] == [{"base": 10_000, "intents@1": 0}, {"base": 10_000}]
    assert controller.told("rollout.progressed.v1")[-1]["model_version"] == "intents@2"
    assert [d["phase"] for d in controller.told("rollout.progressed.v1") if d["model_version"] == "intents@1"][-1] == (
        "superseded"
    )


def test_an_older_version_that_arrives_late_never_gets_the_route(controller: Stand) -> None:
    controller.begin(2)
    controller.load(2)
    controller.run(12)
    controller.hear(model_registered(1))
    controller.run(60)
    assert (controller.phase("intents-r1"), controller.phase("intents-r2")) == ("superseded", "promoted")
    assert not any("intents@1" in weights for weights in controller.weights())


def test_a_redelivered_registration_makes_no_second_rollout(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.run(60)
    controller.hear(model_registered(1))
    controller.run(10)
    assert len(controller.told("rollout.promoted.v1")) == 1


def test_a_registration_before_its_pipeline_waits(controller: Stand) -> None:
    controller.hear(model_registered())
    assert "is not known yet" in unhandled(controller.engine)["model.registered.v1"]


@pytest.mark.parametrize("permanent", [True, False])
def test_a_failure_to_load(controller: Stand, permanent: bool) -> None:
    controller.begin()
    controller.hear(adapter_loaded("gpu-0"), adapter_failed("gpu-1", permanent=permanent))
    controller.run(20)
    assert controller.phase() == ("rolled_back" if permanent else "staging")
    controller.clock.advance(120)
    controller.run(4)
    assert controller.phase() == "rolled_back"
    [told] = controller.told("rollout.rolled_back.v1")
    why = "replica gpu-1 cannot load intents@1: rank 64" if permanent else "not loaded everywhere"
    assert told["reason"].startswith(why)
    assert (told["guardrail"], told["seconds_exposed"], told["users_exposed"]) == ("", None, None)


def test_a_replica_that_restarted_must_confirm_again_in_whatever_order_the_news_arrives(controller: Stand) -> None:
    controller.begin()
    controller.clock.advance(1)
    controller.load()
    controller.clock.advance(1)
    controller.hear(replica_ready("gpu-0"))
    controller.run(10)
    assert controller.phase() == "staging"
    controller.hear(adapter_loaded("gpu-0"))
    controller.run(5)
    assert controller.phase() == "progressing"


@pytest.mark.parametrize(
    ("change", "why"),
    [({"base_model": "other"}, "was trained on other, but the route intents serves tiny"),
     ({"digest": "sha256:" + "c" * 64}, "with digest sha256:ccc")],
)
def test_an_adapter_for_another_base_is_refused(controller: Stand, change: dict[str, Any], why: str) -> None:
    controller.begin()
    controller.load()
    controller.run(60)
    controller.hear(model_registered(2, **change))
    controller.run(10)
    assert controller.phase("intents-r2") == "rolled_back"
    assert why in controller.told("rollout.rolled_back.v1")[0]["reason"]
    assert controller.weights()[-1] == {"intents@1": 10_000}


def test_a_controller_that_lost_its_lease_changes_nothing(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.run(4)
    controller.clock.advance(5)
    with transaction(controller.engine) as session:
        slow = claim(session, Rollout, states=["progressing"], owner="slow", now=controller.clock.now(),
                     ttl=timedelta(seconds=30))
    assert slow is not None
    controller.clock.advance(60)
    controller.run(60)
    assert controller.phase() == "promoted"
    before = said(controller.engine)
    controller.reconciler(*slow)
    assert said(controller.engine) == before
    assert controller.phase() == "promoted"


def test_a_quiet_hold_is_stored_once_and_news_each_time(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.run(2)
    controller.prometheus.fault = (500, "")
    controller.run(60)
    holds = [row for row in controller.decisions() if row.rule == "no_data"]
    assert len(holds) == 1
    assert holds[0].verdict == "no_data"
    controller.prometheus.fault = None
    controller.run(60)
    assert controller.phase() == "promoted"


def test_what_is_stored_is_what_was_decided(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.run(12)
    with reading(controller.engine) as session:
        row = session.get(Rollout, "intents-r1")
        assert row is not None
        state = RolloutState.model_validate(row.data)
    assert state.phase == row.state == "progressing"
    assert state.guardrails["errors"].evidence.candidate.total > 0
