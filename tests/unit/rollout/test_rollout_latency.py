"""Quantiles of how long answers take: what is asked for and when, and what is made of it."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from services.rollout import latency
from services.rollout.comparison_views import latency_view
from services.rollout.facts import Known
from services.rollout.observation import Loading, Observation
from services.rollout.observe import observe
from services.rollout.samples import NoData, Sample
from services.rollout.state import LatencyState, ObjectiveState, RolloutState
from shared.gateway_metrics import DURATION
from shared.pipeline import AbTest, Guardrail, RolloutPolicy, RolloutStep
from tests.support.rollouts import CANDIDATE, CONTROL, STABLE, policy, row_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GUARDED = policy(guardrails=[Guardrail(metric="latency", slo_seconds=0.5)])


def histogram(version: str, **counts: float) -> list[Sample]:
    names = {"le0_5": "0.5", "le1": "1", "inf": "+Inf"}
    return [Sample({"job": "g", "instance": "1", "model_version": version, "le": names[bound]}, float(value), 0.0)
            for bound, value in counts.items()]


def look_at(*samples: Sample) -> Observation:
    return Observation(stable=STABLE, candidate=CANDIDATE, latencies=latency.readings_of(samples))


def in_traffic(**changes: Any) -> RolloutState:
    """A state with a weight since a minute."""
    begun = NOW - timedelta(minutes=1)
    return RolloutState.model_validate({
        "phase": "progressing", "weight": 2000, "since": begun, "exposed_from": begun,
        "looked_at": NOW - timedelta(seconds=5), **changes,
    })


def test_quantiles_come_from_what_was_counted_since_the_first_look_at_the_traffic() -> None:
    before = look_at(*histogram(STABLE, le0_5=900, le1=900, inf=900), *histogram(CANDIDATE, le0_5=0, le1=0, inf=0))
    state = latency.counted(LatencyState(), before)
    assert latency.quantiles(state, "stable", 0.05) == {}
    assert latency_view(in_traffic(latencies=state), GUARDED) is None
    after = look_at(*histogram(STABLE, le0_5=900, le1=1900, inf=1900),
                    *histogram(CANDIDATE, le0_5=900, le1=990, inf=1000))
    state = latency.counted(state, after)
    stable, candidate = (latency.quantiles(state, role, 0.05) for role in ("stable", "candidate"))
    assert (stable[0.5].low, stable[0.5].high) == (0.5, 1.0)
    assert (candidate[0.5].low, candidate[0.5].high) == (0.0, 0.5)
    assert math.isinf(candidate[0.99].high)
    shown = latency_view(in_traffic(latencies=state), GUARDED)
    assert shown is not None
    assert [(one.level, one.high) for one in shown.candidate] == [(0.5, 0.5), (0.95, 1.0), (0.99, None)]
    # A scrape that lacks a bucket, or all of them, takes nothing away.
    assert latency.counted(state, look_at()) == state
    assert latency.counted(state, look_at(*histogram(CANDIDATE, inf=1000))).buckets == state.buckets


def test_the_histogram_is_read_at_the_first_look_and_then_at_every_twelfth() -> None:
    begun = NOW - timedelta(seconds=5)
    assert latency.due("m", in_traffic(exposed_from=begun, looked_at=begun), NOW, GUARDED)
    looks = [NOW + timedelta(seconds=5 * number) for number in range(120)]
    read = [at for before, at in pairwise(looks)
            if latency.due("m", in_traffic(looked_at=before), at, GUARDED)]
    assert {(after - at).total_seconds() for at, after in pairwise(read)} == {60.0}


def test_rollouts_that_began_together_do_not_read_together() -> None:
    state = in_traffic()
    due = sum(latency.due(f"route-{number}", state, NOW, GUARDED) for number in range(600))
    assert 25 <= due <= 75, "a twelfth"


@pytest.mark.parametrize(("rules", "changes", "wanted"), [
    (GUARDED, {}, True), (GUARDED, {"phase": "paused"}, True), (GUARDED, {"weight": 0}, False),
    (GUARDED, {"phase": "promoting"}, False), (policy(guardrails=[Guardrail(metric="errors")]), {}, False),
    (policy(guardrails=[Guardrail(metric="errors")], steps=[RolloutStep(weight=50)],
            ab_test=AbTest(metric="errors")), {}, True),
])
def test_only_what_shall_be_fast_or_is_tested_is_read_while_the_candidate_has_users(
    rules: RolloutPolicy, changes: dict[str, Any], wanted: bool,
) -> None:
    state = in_traffic(looked_at=NOW - timedelta(minutes=1), **changes)
    assert latency.due("m", state, NOW, rules) is wanted


class Gateway:
    """Answers with the latencies of all versions, whatever is asked of them; remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def newest(self, selector: str, _: object) -> Sequence[Sample] | NoData:
        self.asked.append(selector)
        if not selector.startswith(DURATION):
            return NoData("empty", f"Prometheus has no series {selector}")
        counts = {"le0_5": 3.0, "le1": 4.0, "inf": 5.0}
        return [sample for version in (STABLE, CANDIDATE, CONTROL) for sample in histogram(version, **counts)
                if "le=~" not in selector or sample.labels["le"] in ("0.5", "+Inf")]


@pytest.mark.parametrize(("looked", "control"), [(60.0, None), (60.0, CONTROL), (0.0, None)])
def test_all_buckets_of_both_versions_are_asked_for_beside_those_that_are_counted(
    looked: float, control: str | None,
) -> None:
    state = in_traffic(looked_at=NOW - timedelta(seconds=looked))
    known = Known(stable=STABLE, control=control, loading=Loading(loaded=1), route_free=True, misfit="",
                  successor=None, command=None, answers={}, met=None)
    gateway = Gateway()
    seen = observe(known, gateway, row_of(GUARDED), state, policy=GUARDED, now=NOW)
    whole = [asked for asked in gateway.asked if asked.startswith(DURATION) and "le=~" not in asked]
    versions = f'{DURATION}_bucket{{route="m",model_version=~"{control or STABLE}|{CANDIDATE}"}}'
    assert whole == ([versions] if looked else [])
    assert len(seen.latencies) == 9 * len(whole), "what is not of the two is left out later"


def test_what_an_earlier_release_kept_with_the_ab_test_is_left_out() -> None:
    stored = {"buckets": {"stable": {"+Inf": 3}}, "bucket_counters": {"g": {"x": 1.0}}, "verdict": "undecided"}
    assert ObjectiveState.model_validate(stored).verdict == "undecided"
