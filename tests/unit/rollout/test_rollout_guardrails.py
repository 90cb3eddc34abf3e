"""What samples mean to a guardrail, and when they mean nothing."""

import math

import pytest

from services.rollout.queries import Query, queries_of
from services.rollout.readings import readings_of
from services.rollout.samples import NoData, Sample
from shared.pipeline import Guardrail

ERRORS = Guardrail(metric="errors")
LATENCY = Guardrail(metric="latency", slo_seconds=0.5)
MINE = Guardrail(metric="promql", name="mine", bad='x_bad{v="$version"}', total='x_a{v="$version"} + x_b{v="$version"}')
GATEWAY = "tuneloop_gateway_"
ONE = Query("anything")


def sample(value: float, version: str = "m@2", **labels: str) -> Sample:
    everything = {"job": "gateway", "instance": "gw:1", "route": "m", "model_version": version, **labels}
    return Sample(labels=everything, value=value, at=0.0)


def histogram(**buckets: float) -> list[Sample]:
    return [sample(value, le=le.removeprefix("le").replace("_", ".")) for le, value in buckets.items()]


@pytest.mark.parametrize(("guardrail", "name", "selectors"), [
    (ERRORS, "errors", ['requests_total{route="m",outcome=~"ok|error"}']),
    (LATENCY, "latency>0.5s", ['request_duration_seconds_bucket{route="m",le=~"0[.]5([.]0)?|[+]Inf"}']),
    (Guardrail(metric="time_to_first_token", slo_seconds=1), "time_to_first_token>1s",
     ['time_to_first_token_seconds_bucket{route="m",le=~"1([.]0)?|[+]Inf"}']),
    (Guardrail(metric="inter_token", slo_seconds=0.1), "inter_token>0.1s",
     ['request_inter_token_seconds_bucket{route="m",le=~"0[.]1([.]0)?|[+]Inf"}']),
    (Guardrail(metric="thumbs_down"), "thumbs_down", ['feedback_total{route="m",verdict=~"good|neutral|bad"}']),
    (Guardrail(metric="refusals"), "refusals", ['answers_total{route="m",kind=~"answered|refused"}']),
    (Guardrail(metric="invalid_output"), "invalid_output",
     ['structured_answers_total{route="m",result=~"valid|invalid"}']),
])
def test_names_and_selectors(guardrail: Guardrail, name: str, selectors: list[str]) -> None:
    assert guardrail.called == name
    assert [query.selector for query in queries_of(guardrail, "m", "m@1", "m@2")] == [GATEWAY + s for s in selectors]


def test_promql_is_asked_for_each_version_by_itself_and_only_stable_may_be_missing() -> None:
    assert MINE.called == "mine"
    queries = queries_of(MINE, "m", "base", "m@2")
    assert [(query.version, query.part, query.selector) for query in queries] == [
        ("m@2", "total", 'x_a{v="m@2"}'), ("m@2", "total", 'x_b{v="m@2"}'), ("m@2", "bad", 'x_bad{v="m@2"}'),
        ("base", "total", 'x_a{v="base"}'), ("base", "total", 'x_b{v="base"}'), ("base", "bad", 'x_bad{v="base"}'),
    ]
    assert [bool(query.may_lack) for query in queries] == [False] * 3 + [True] * 3


def test_an_error_is_bad_and_both_outcomes_are_the_total() -> None:
    readings = readings_of(ERRORS, [(ONE, [sample(7, outcome="ok"), sample(2, outcome="error")])], "m@2")
    assert not isinstance(readings, NoData)
    assert [(r.cell, r.value, r.bad, r.total) for r in readings] == [("ok", 7, 0, 1), ("error", 2, 1, 1)]
    assert {r.target for r in readings} == {"gateway/gw:1"}


def test_slow_requests_are_all_minus_those_within_the_slo() -> None:
    samples = histogram(**{"le0_1": 1, "le0_5": 6, "le1_0": 8, "le+Inf": 9})
    readings = readings_of(LATENCY, [(ONE, samples)], "m@2")
    assert not isinstance(readings, NoData)
    assert {(r.value, r.bad, r.total) for r in readings} == {(6, -1, 0), (9, 1, 1)}


def test_an_slo_between_two_buckets_is_no_data_and_says_which_there_are() -> None:
    found = readings_of(LATENCY, [(ONE, histogram(**{"le0_25": 1, "le1_0": 8, "le+Inf": 9}))], "m@2")
    assert found == NoData("no_bucket", "the histogram has no bucket le=0.5; it has 0.25, 1, inf")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("guardrail", [ERRORS, LATENCY, MINE])
def test_a_value_that_no_counter_can_have_is_no_data(guardrail: Guardrail, value: float) -> None:
    samples = [sample(1, outcome="ok", le="0.5"), sample(value, outcome="error", le="+Inf")]
    found = readings_of(guardrail, [(ONE, samples)], "m@2")
    assert isinstance(found, NoData)
    assert found.kind == "invalid"


@pytest.mark.parametrize(("guardrail", "samples", "kind", "why"), [
    (ERRORS, [sample(7, outcome="ok")], "incomplete", "gateway/gw:1 shows m@2 without outcome=error"),
    (ERRORS, [sample(7, outcome="error")], "incomplete", "gateway/gw:1 shows m@2 without outcome=ok"),
    (LATENCY, [*histogram(**{"le0_5": 6, "le+Inf": 9}), sample(4, instance="gw:2", le="+Inf")], "incomplete",
     "gateway/gw:2 shows m@2 without le=0.5"),
    (LATENCY, histogram(**{"lemany": 6}), "malformed", "has no bound in le"),
    (ERRORS, [Sample({"outcome": "ok"}, 1, 0)], "malformed", "has no label model_version"),
])
def test_half_a_counter_is_no_data_rather_than_harm(
    guardrail: Guardrail, samples: list[Sample], kind: str, why: str
) -> None:
    found = readings_of(guardrail, [(ONE, samples)], "m@2")
    assert isinstance(found, NoData)
    assert found.kind == kind
    assert why in found.reason


def test_a_candidate_without_samples_is_no_data() -> None:
    stable = [sample(7, "base", outcome="ok"), sample(0, "base", outcome="error")]
    assert readings_of(ERRORS, [(ONE, stable)], "m@2") == NoData("no_candidate", "there are no fresh samples of m@2")


def test_stable_may_be_missing() -> None:
    samples = [sample(7, outcome="ok"), sample(0, outcome="error")]
    assert not isinstance(readings_of(ERRORS, [(ONE, samples)], "m@2"), NoData)


@pytest.mark.parametrize(("part", "why"), [
    ("bad", "there are bad events of base but no total"),
    ("total", "there is a total of base but no bad events, not even at 0"),
])
def test_half_of_stable_is_no_data(part: str, why: str) -> None:
    queries = [q for q in queries_of(MINE, "m", "base", "m@2") if q.version == "m@2" or q.part == part]
    found = readings_of(MINE, [(query, [sample(1)]) for query in queries], "m@2")
    assert found == NoData("incomplete", why)
