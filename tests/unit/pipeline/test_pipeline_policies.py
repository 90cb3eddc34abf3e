"""Rollout policies that are refused when they are applied: the field, what is wrong with it, and the remedy."""

import json
import math
from typing import Any

import pytest

from services.gateway.metrics import GatewayMetrics
from shared import gateway_metrics
from shared.errors import InvalidInputError
from shared.pipeline import RolloutPolicy, parse_pipeline

PROMQL = {"metric": "promql", "name": "toxic", "bad": 'a{v="$version"}', "total": 'b{v="$version"}'}


def apply(**rollout: Any) -> RolloutPolicy:
    """JSON is YAML."""
    document = {"apiVersion": "tuneloop.dev/v1", "kind": "Pipeline", "metadata": {"name": "p"},
                "spec": {"baseModel": "tiny", "rollout": rollout}}
    return parse_pipeline(json.dumps(document), source="p.yaml").spec.rollout


def guarded(**guardrail: Any) -> dict[str, Any]:
    return {"guardrails": [guardrail]}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "falling weights": ({"steps": [{"weight": 50}, {"weight": 10}]}, "rollout", "weights must rise"),
    "equal weights": ({"steps": [{"weight": 10}, {"weight": 10}]}, "rollout", "weights must rise"),
    "less than can be dealt": (
        {"steps": [{"weight": 0.004}]}, "steps.0.weight",
        "0.004 % cannot be dealt: the split has steps of 0.01 %; take 0.01",
    ),
    "finer than can be dealt": (
        {"steps": [{"weight": 10}, {"weight": 10.001}]}, "steps.1.weight", "10.001 % cannot be dealt",
    ),
    "copies finer than can be dealt": ({"shadow": {"percent": 0.125}}, "shadow.percent", "take 0.12"),
    "an infinite margin": (guarded(metric="errors", margin=math.inf), "guardrails.0.margin", "finite number"),
    "no time at all": ({"deadline": "0s"}, "rollout.deadline", "over before anything can be proved"),
    "no time to load": ({"loadDeadline": "0s"}, "rollout.loadDeadline", "rolls back every candidate"),
    "too much": ({"steps": [{"weight": 101}]}, "rollout.steps.0.weight", "less than or equal to 100"),
    "a rate of what is not counted": (
        {"expectedTraffic": {"requestsPerMinute": 60, "badRates": {"refusals": 0.1}}},
        "expectedTraffic.badRates.refusals", "the policy counts no refusals; it counts errors",
    ),
    "a control that does not fit": (
        {"control": True, "steps": [{"weight": 50}, {"weight": 60}]}, "rollout.steps.1.weight",
        "60 for the candidate and as much for the control do not fit in 100; take at most 50, or remove control",
    ),
    "not worse by nothing": (
        {"objectives": [{"metric": "thumbs_down", "goal": "not_worse"}]}, "objectives.0.margin",
        "0 can never be proved of a version that is as good; give the least difference that matters, such as 0.02",
    ),
    "a score that shall be low": (
        {"objectives": [{"metric": "feedback_score"}]}, "objectives.0.direction", "write direction: higher",
    ),
    "a score as a guardrail": (guarded(metric="feedback_score"), "guardrails.0.metric", "'errors', 'latency'"),
    "an objective twice": (
        {"objectives": [{"metric": "refusals"}, {"metric": "refusals", "goal": "not_worse", "margin": 0.1}]},
        "objectives.1", "refusals is what objectives.0 is about already; remove one of them",
    ),
    "an objective that decides the A/B test": (
        {"steps": [{"weight": 50}], "abTest": {"metric": "refusals"}, "objectives": [{"metric": "refusals"}]},
        "objectives.0", "refusals is what abTest is about already",
    ),
    "an objective without anybody to compare with": (
        {"steps": [{"weight": 100}], "objectives": [{"metric": "refusals"}]}, "steps.0.weight",
        "100 leaves nobody to compare the candidate with, and objectives are proved in the last step; take 50",
    ),
    "an objective's SLO between buckets": (
        {"objectives": [{"metric": "latency", "sloSeconds": 0.3}]}, "objectives.0.sloSeconds", "0.3 is no bucket",
    ),
    "no copies": ({"shadow": {"percent": 0}}, "rollout.shadow.percent", "greater than 0"),
    "copies and weight in one": ({"steps": [{"weight": 5, "shadow": 5}]}, "rollout.steps.0.shadow", "unknown key"),
    "no steps": ({"steps": []}, "rollout.steps", "at least 1 item"),
    "no guardrails": ({"guardrails": []}, "rollout.guardrails", "at least 1 item"),
    "alpha 0": ({"alpha": 0}, "rollout.alpha", "greater than 0"),
    "alpha 1": ({"alpha": 1}, "rollout.alpha", "less than 1"),
    "beta 1.5": ({"beta": 1.5}, "rollout.beta", "less than 1"),
    "margin 1": (guarded(metric="errors", margin=1), "guardrails.0.margin", "greater than 1"),
    "no interval": ({"interval": "0s"}, "rollout.interval", "a look each second is the most"),
    "latency without an SLO": (guarded(metric="latency"), "guardrails.0", "sloSeconds is needed for latency"),
    "errors with an SLO": (guarded(metric="errors", sloSeconds=1), "guardrails.0", "and only there"),
    "SLO between buckets": (
        guarded(metric="latency", sloSeconds=0.3), "guardrails.0.sloSeconds",
        "0.3 is no bucket of the gateway's histogram, so nobody counts what is slower; take one of 0.01, 0.025, 0.05",
    ),
    "SLO of another histogram": (
        guarded(metric="inter_token", sloSeconds=30), "guardrails.0.sloSeconds", "take one of 0.001, 0.0025"
    ),
    "a metric that does not exist": (guarded(metric="vibes"), "guardrails.0.metric", "'errors', 'latency'"),
    "the same twice": (
        {"guardrails": [{"metric": "errors"}, {"metric": "errors", "margin": 3}]},
        "guardrails.1", "errors is guarded twice, also by guardrails.0; remove one of them",
    ),
    "hard limit below what is tolerable": (
        guarded(metric="errors", hardLimit=0.05, tolerableRate=0.1), "guardrails.0.hardLimit",
        "0.05 would roll back what tolerableRate (0.1) calls tolerable; raise it above that, or write null for none",
    ),
    "promql without total": (
        guarded(metric="promql", name="toxic", bad='a{v="$version"}'), "guardrails.0",
        "metric: promql needs name, bad and total; add total",
    ),
    "promql without a name": (
        guarded(**{**PROMQL, "name": None}), "guardrails.0", "metric: promql needs name, bad and total; add name"
    ),
    "bad without promql": (guarded(metric="errors", bad="x"), "guardrails.0", "bad: only for metric: promql"),
    "promql that does not parse": (
        guarded(**{**PROMQL, "bad": 'a{v="$version"'}), "guardrails.0.bad", "is not PromQL: unexpected end of input"
    ),
    "promql with a rate": (
        guarded(**{**PROMQL, "total": 'rate(b{v="$version"}[1m])'}), "guardrails.0.total", "is a function"
    ),
    "promql whose bad is its total": (
        guarded(**{**PROMQL, "bad": PROMQL["total"]}), "guardrails.0.bad", "the same as total, so every event"
    ),
    "promql of a gateway's metric that does not exist": (
        guarded(**{**PROMQL, "bad": 'tuneloop_gateway_refusals_total{v="$version"}'}), "guardrails.0.bad",
        "the gateway has no counter tuneloop_gateway_refusals_total",
    ),
}


@pytest.mark.parametrize(("rollout", "path", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_policy_is_refused_with_the_field_and_the_remedy(rollout: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        apply(**rollout)
    problem = str(caught.value)
    assert f"p.yaml: spec.{'' if path.startswith('rollout') else 'rollout.'}{path}: " in problem
    assert why in problem


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        apply(interval="0s", **guarded(metric="latency", sloSeconds=0.3))
    assert "spec.rollout.interval: " in str(caught.value)
    assert "spec.rollout.guardrails.0.sloSeconds: " in str(caught.value)


def test_what_was_stored_before_a_check_existed_can_still_be_read() -> None:
    """Or its rollout could not be aborted."""
    policy = RolloutPolicy.model_validate(guarded(metric="latency", sloSeconds=0.3))
    assert policy.guardrails[0].called == "latency>0.3s"


def test_every_guardrail_there_is_can_be_applied() -> None:
    timed = ("latency", "time_to_first_token", "inter_token")
    plain = ("errors", "thumbs_down", "refusals", "invalid_output")
    policy = apply(guardrails=[
        *({"metric": metric, "sloSeconds": 0.5} for metric in timed), *({"metric": metric} for metric in plain), PROMQL,
    ])
    assert [guardrail.called for guardrail in policy.guardrails] == [
        *(f"{metric}>0.5s" for metric in timed), *plain, "toxic",
    ]


def test_copies_may_come_before_an_ab_test() -> None:
    """They are no part of it: the reducer begins it with the first weight."""
    policy = apply(shadow={"percent": 5}, abTest={"metric": "errors"}, steps=[{"weight": 50}])
    assert len(policy.stages) == 2


def test_the_known_series_are_those_that_the_gateway_exposes() -> None:
    metrics = GatewayMetrics()
    metrics.target("r", "r@1").used({"prompt_tokens": 1})
    metrics.shadow("r", "r@1")
    exposed = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert exposed >= gateway_metrics.SERIES
    assert gateway_metrics.UNITS in exposed
