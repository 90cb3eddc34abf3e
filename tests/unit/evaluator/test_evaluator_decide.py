"""The gates: what passes, what never does, and that the reason says which."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.contract import Target
from services.evaluator.decide import describe, judge, passed, plan, reportable
from shared.events import GateResult, Measurement
from shared.pipeline import Gate

METRICS = ("exact_match", "perplexity")
NOT_FINITE = (math.nan, math.inf, -math.inf)


def measured(subject: str, on: str = "heldout", **metrics: float) -> Measurement:
    return Measurement.model_validate({"subject": subject, "on": on, "rows": 10, "metrics": metrics})


def one(gate: Gate, *measurements: Measurement, production: str | None = None) -> GateResult:
    (result,) = judge([gate], measurements, production=production)
    return result


def test_an_absolute_minimum() -> None:
    gate = Gate(metric="exact_match", min=0.8)
    good, bad = one(gate, measured("candidate", exact_match=0.8)), one(gate, measured("candidate", exact_match=0.79))
    assert (good.passed, good.observed, good.threshold) == (True, 0.8, 0.8)
    assert (bad.passed, bad.reason) == (False, "candidate 0.79 is below 0.8")


def test_an_absolute_maximum() -> None:
    gate = Gate(metric="perplexity", max=3)
    assert one(gate, measured("candidate", perplexity=3.0)).passed
    assert one(gate, measured("candidate", perplexity=3.01)).reason == "candidate 3.01 is above 3"


def test_a_gate_on_a_task_looks_at_that_task_alone() -> None:
    gate = Gate(metric="exact_match", task="sums", min=0.8)
    scores = measured("candidate", **{"exact_match": 0.9, "exact_match/sums": 0.5})  # type: ignore[arg-type]
    result = one(gate, scores)
    assert result.gate == "exact_match/sums on heldout: candidate >= 0.8"
    assert (result.passed, result.observed) == (False, 0.5)
    assert one(gate, measured("candidate", exact_match=0.9)).reason == (
        "exact_match/sums of candidate on heldout was not measured"
    )


def test_better_than_the_base_by_a_margin() -> None:
    gate = Gate(metric="exact_match", versus="base", min_delta=0.1)
    result = one(gate, measured("candidate", exact_match=0.9), measured("base", exact_match=0.1))
    assert (result.gate, result.passed, result.observed) == (
        "exact_match on heldout: candidate - base >= 0.1", True, 0.8
    )


def test_not_worse_than_production_on_its_own_rows() -> None:
    gate = Gate(metric="exact_match", on="production_heldout", versus="production", min_delta=-0.05)
    result = one(
        gate, measured("candidate", "production_heldout", exact_match=0.1),
        measured("production", "production_heldout", exact_match=0.9),
        measured("candidate", exact_match=0.95), measured("production", exact_match=0.0), production="intents@3",
    )
    assert not result.passed
    assert result.reason == "candidate 0.1 - production (intents@3) 0.9 = -0.8 is below -0.05"


def test_a_margin_that_is_met_exactly_in_decimals_is_met() -> None:
    gate = Gate(metric="exact_match", versus="base", min_delta=0.1)
    assert one(gate, measured("candidate", exact_match=0.3), measured("base", exact_match=0.2)).passed


@pytest.mark.parametrize(
    "gate",
    [
        Gate(metric="exact_match", versus="production", min_delta=0),
        Gate(metric="exact_match", on="production_heldout", versus="production", min_delta=0),
        Gate(metric="perplexity", on="production_heldout", max=2),
    ],
    ids=describe,
)
def test_a_gate_against_production_passes_with_a_note_while_there_is_none(gate: Gate) -> None:
    result = one(gate, measured("candidate", exact_match=0.0, perplexity=99))
    assert result.passed
    assert "nothing is in production" in result.reason


def test_what_was_not_measured_never_passes() -> None:
    missing = one(Gate(metric="perplexity", max=1e9), measured("candidate", exact_match=1.0))
    assert (missing.passed, missing.observed) == (False, None)
    assert missing.reason == "perplexity of candidate on heldout was not measured"
    other = one(Gate(metric="exact_match", versus="base", min_delta=-1), measured("candidate", exact_match=1.0))
    assert other.reason == "exact_match of base on heldout was not measured"


def test_no_gates_at_all_pass_nothing() -> None:
    assert not passed([])


def test_one_gate_that_fails_stops_the_candidate() -> None:
    gates = [Gate(metric="exact_match", min=0.5), Gate(metric="perplexity", max=2)]
    assert not passed(judge(gates, [measured("candidate", exact_match=1.0, perplexity=2.5)], production=None))
    assert passed(judge(gates, [measured("candidate", exact_match=1.0, perplexity=1.5)], production=None))


def test_events_carry_finite_numbers_only() -> None:
    (item,) = reportable([measured("candidate", exact_match=0.5, perplexity=math.inf)])
    assert item.metrics == {"exact_match": 0.5}


def test_what_is_measured_without_and_with_a_production() -> None:
    gate = Gate(metric="exact_match", min=0.5)
    assert plan([gate], production=False) == [Target("candidate", "heldout"), Target("base", "heldout")]
    assert len(plan([gate], production=True)) == 5
    by_base = Gate(metric="exact_match", on="production_heldout", versus="base", min_delta=0)
    assert Target("base", "production_heldout") in plan([by_base], production=True)
    pairs = Gate(metric="pairwise_accuracy", min=0.6)
    assert plan([pairs], production=True) == [Target("candidate", "heldout"), Target("base", "heldout")]


finite = st.floats(0, 1e6, allow_nan=False)
any_float = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    versus = draw(st.sampled_from([None, "base", "production"]))
    bound = draw(st.sampled_from(["min_delta", "max_delta"] if versus else ["min", "max"]))
    return Gate.model_validate({
        "metric": draw(st.sampled_from(METRICS)), "on": draw(st.sampled_from(["heldout", "production_heldout"])),
        "versus": versus, bound: draw(st.floats(-10, 10)),
    })


def measurements_of(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Measurement]]:
    return st.lists(
        st.builds(
            lambda subject, on, metrics: Measurement(subject=subject, on=on, rows=1, metrics=metrics),
            st.sampled_from(["candidate", "base", "production"]), st.sampled_from(["heldout", "production_heldout"]),
            st.dictionaries(st.sampled_from(METRICS), values),
        ),
        unique_by=lambda item: (item.subject, item.on),
    )


@given(gates(), measurements_of(any_float))
def test_a_gate_passes_only_on_finite_numbers_that_meet_its_bound(gate: Gate, items: list[Measurement]) -> None:
    result = one(gate, *items, production="intents@1")
    if not result.passed:
        return
    values = {(item.subject, item.on): item.metrics for item in items}
    seen = values["candidate", gate.on][gate.metric]
    if gate.versus is not None:
        seen -= values[gate.versus, gate.on][gate.metric]
    assert math.isfinite(seen)
    assert result.observed == pytest.approx(seen, abs=1e-9)
    low = next((bound for bound in (gate.min, gate.min_delta) if bound is not None), -math.inf)
    high = next((bound for bound in (gate.max, gate.max_delta) if bound is not None), math.inf)
    assert low - 1e-9 <= seen <= high + 1e-9


@given(gates(), measurements_of(finite), st.sampled_from(NOT_FINITE))
def test_a_candidate_with_nan_or_infinity_never_passes(gate: Gate, items: list[Measurement], broken: float) -> None:
    others = [item for item in items if item.subject != "candidate"]
    bad = Measurement(subject="candidate", on=gate.on, rows=1, metrics=dict.fromkeys(METRICS, broken))
    assert not one(gate, *others, bad, production="intents@1").passed


@given(gates(), measurements_of(any_float), st.sampled_from([None, "intents@1"]))
def test_every_result_can_travel_in_an_event(gate: Gate, items: list[Measurement], production: str | None) -> None:
    result = one(gate, *items, production=production)
    assert result.observed is None or math.isfinite(result.observed) or not result.passed
    assert result.reason
