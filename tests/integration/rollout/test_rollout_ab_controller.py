"""An A/B test by the whole controller: what it reads, stores, says, and shows."""

from typing import Any

import pytest

from services.rollout.models import Rollout
from services.rollout.views import rollout_view
from shared.db import reading
from tests.support.rollout_stand import Stand

pytestmark = pytest.mark.integration

# Errors decide here and latency is what is guarded; the stand's gateways count both.
AB: dict[str, Any] = {
    "steps": [{"weight": 50, "minDuration": "30s", "minRequests": 100}], "abTest": {"metric": "errors"},
    "guardrails": [{"metric": "latency", "sloSeconds": 0.5}],
}


def begin(controller: Stand, bad_share: float) -> None:
    controller.begin(**AB)
    controller.load()
    controller.bad_share = bad_share
    controller.run(40, requests=40)


def test_the_worse_candidate_loses_and_everything_says_so(controller: Stand) -> None:
    begin(controller, 0.1)
    [ended] = controller.told("rollout.rolled_back.v1")
    assert ended["reason"].startswith("the A/B test favoured stable: errors (better is lower): candidate ")
    assert ended["guardrail"] == ""
    assert ended["evidence"]["A/B errors.effect_high"] < 0
    assert ended["evidence"]["A/B errors.stable_bad"] == 0
    last = controller.decisions()[-1]
    assert (last.action, last.rule, last.weight) == ("rollback", "ab_test", 0)
    assert last.evidence["A/B errors"]["verdict"] == "stable"
    assert last.evidence["A/B errors"]["candidate_bad"] > 0
    assert controller.weights()[-1] == {"base": 10_000}


def test_it_keeps_its_split_while_undecided_and_shows_variants(controller: Stand) -> None:
    begin(controller, 0.0)
    controller.run(60, requests=40)  # latencies are read at every twelfth look
    assert controller.phase() == "progressing"
    assert controller.weights()[-1] == {"base": 5000, "intents@1": 5000}
    with reading(controller.engine) as session:
        row = session.get(Rollout, "intents-r1")
        assert row is not None
        view = rollout_view(session, row, controller.clock.now())
    test, latency = view.ab_test, view.latency
    assert test is not None
    assert latency is not None
    assert (test.verdict, test.candidate.bad, test.stable.total == test.candidate.total) == ("undecided", 0, True)
    # Every answer of the stand's gateways is within the first bucket.
    for quantiles in (latency.stable, latency.candidate):
        assert [one.level for one in quantiles] == [0.5, 0.95, 0.99]
        assert [(one.low, one.high) for one in quantiles[:2]] == [(0.0, 0.5), (0.0, 0.5)]


def test_an_objective_ends_what_misses_it_and_is_shown(controller: Stand) -> None:
    objective = {"metric": "errors", "goal": "not_worse", "margin": 0.02}
    controller.begin(**{**AB, "abTest": None, "objectives": [objective]})
    controller.load()
    controller.bad_share = 0.2
    controller.run(60, requests=40)
    [ended] = controller.told("rollout.rolled_back.v1")
    assert ended["reason"].startswith("missed for sure: errors (better is lower): candidate ")
    assert ended["evidence"]["objective errors.effect_high"] < -0.02
    with reading(controller.engine) as session:
        row = session.get(Rollout, "intents-r1")
        assert row is not None
        [shown] = rollout_view(session, row, controller.clock.now()).objectives
    assert (shown.metric, shown.goal, shown.bound, shown.verdict) == ("errors", "not_worse", -0.02, "missed")
    assert (shown.stable.bad, shown.candidate.bad > 0) == (0, True)
