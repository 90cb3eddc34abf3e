"""What the gateway's samples mean to a guardrail, and when they mean nothing."""

import math

import pytest

from services.rollout.guardrails import NoData, Sample, name_of, readings_of, selector_of
from shared.pipeline import Guardrail

ERRORS = Guardrail(metric="errors")
LATENCY = Guardrail(metric="latency", slo_seconds=0.5)


def sample(value: float, version: str = "m@2", **labels: str) -> Sample:
    everything = {"job": "gateway", "instance": "gw:1", "route": "m", "model_version": version, **labels}
    return Sample(labels=everything, value=value, at=0.0)


def histogram(**buckets: float) -> list[Sample]:
    return [sample(value, le=le.removeprefix("le").replace("_", ".")) for le, value in buckets.items()]


def test_names_and_selectors() -> None:
    assert (name_of(ERRORS), name_of(LATENCY)) == ("errors", "latency>0.5s")
    assert selector_of(ERRORS, "m") == 'tuneloop_gateway_requests_total{route="m",outcome=~"ok|error"}'
    assert selector_of(LATENCY, "m") == 'tuneloop_gateway_request_duration_seconds_bucket{route="m"}'


def test_an_error_is_bad_and_both_outcomes_are_the_total() -> None:
    readings = readings_of(ERRORS, [sample(7, outcome="ok"), sample(2, outcome="error")], "m@2")
    assert not isinstance(readings, NoData)
    assert [(r.value, r.bad, r.total) for r in readings] == [(7, 0, 1), (2, 1, 1)]
    assert {r.target for r in readings} == {"gateway/gw:1"}


def test_slow_requests_are_all_minus_those_within_the_slo() -> None:
    samples = histogram(**{"le0_1": 1, "le0_5": 6, "le1_0": 8, "le+Inf": 9})
    readings = readings_of(LATENCY, samples, "m@2")
    assert not isinstance(readings, NoData)
    assert {(r.value, r.bad, r.total) for r in readings} == {(6, -1, 0), (9, 1, 1)}


def test_an_slo_between_two_buckets_is_no_data_and_says_which_there_are() -> None:
    found = readings_of(LATENCY, histogram(**{"le0_25": 1, "le1_0": 8, "le+Inf": 9}), "m@2")
    assert found == NoData("no_bucket", "the histogram has no bucket le=0.5; it has 0.25, 1, inf")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("guardrail", [ERRORS, LATENCY])
def test_a_value_that_no_counter_can_have_is_no_data(guardrail: Guardrail, value: float) -> None:
    samples = [sample(1, outcome="ok", le="0.5"), sample(value, outcome="error", le="+Inf")]
    found = readings_of(guardrail, samples, "m@2")
    assert isinstance(found, NoData)
    assert found.kind == "invalid"


def test_a_candidate_without_samples_is_no_data() -> None:
    found = readings_of(ERRORS, [sample(7, "base", outcome="ok")], "m@2")
    assert found == NoData("no_candidate", "there are no fresh samples of m@2")


def test_stable_may_be_missing() -> None:
    assert not isinstance(readings_of(ERRORS, [sample(7, outcome="ok")], "m@2"), NoData)
