"""Which measurements an evaluation needs, and whether the gates hold. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cronsim import CronSim

from services.evaluator.contract import Target
from shared.events import GateResult, Measurement
from shared.pipeline import Gate

Measured = Mapping[Target, Mapping[str, float]]


def plan(gates: Sequence[Gate], *, production: bool) -> list[Target]:
    """What to measure: candidate and base on the candidate's rows, and both versions on both rows with a production.

    The base on production's rows is measured only where a gate asks for it. Gates on pairwise accuracy are about a
    reward model, which is compared with nothing in production.
    """
    targets = [Target("candidate", "heldout"), Target("base", "heldout")]
    if production and not any(gate.metric == "pairwise_accuracy" for gate in gates):
        targets += [
            Target("production", "heldout"),
            Target("candidate", "production_heldout"),
            Target("production", "production_heldout"),
        ]
        if any(gate.versus == "base" and gate.on == "production_heldout" for gate in gates):
            targets.append(Target("base", "production_heldout"))
    return targets


def missed_tick(cron: str, since: datetime, now: datetime) -> datetime | None:
    """The last tick of a cron expression after `since` and not after `now`; None where there is none.

    Where several were missed it is the last one: they are made up for once.
    """
    # The search finds what is before its start, which has whole seconds.
    tick: datetime = next(CronSim(cron, now.replace(microsecond=0) + timedelta(seconds=1), reverse=True))
    return tick if tick > since else None


def next_tick(cron: str, now: datetime) -> datetime:
    """The first tick after `now`."""
    tick: datetime = next(CronSim(cron, now))
    return tick


def judge(gates: Sequence[Gate], measurements: Sequence[Measurement], *, production: str | None) -> list[GateResult]:
    """What each gate says, in their order.

    Args:
        measurements: may lack some, and may hold NaN or infinite metrics; neither ever lets a gate pass.
        production: the model version that was compared with; None where nothing is in production.
    """
    measured = {Target(item.subject, item.on): item.metrics for item in measurements}
    return [_judge(gate, measured, production) for gate in gates]


def passed(results: Sequence[GateResult]) -> bool:
    """Whether the candidate may become a model version: it met gates, and every one of them."""
    return bool(results) and all(result.passed for result in results)


def reportable(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Without what JSON has no number for: an event with NaN could not be read by others."""
    return [
        item.model_copy(update={"metrics": {k: v for k, v in item.metrics.items() if math.isfinite(v)}})
        for item in measurements
    ]


@dataclass(frozen=True)
class _Bound:
    """The one bound that a gate gives."""

    value: float
    is_minimum: bool

    def holds(self, observed: float) -> bool:
        if not math.isfinite(observed):
            return False
        return observed >= self.value if self.is_minimum else observed <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.is_minimum else '<='} {self.value:g}"


def _bound(gate: Gate) -> _Bound:
    minimum = gate.min if gate.min is not None else gate.min_delta
    maximum = gate.max if gate.max is not None else gate.max_delta
    if minimum is not None:
        return _Bound(minimum, is_minimum=True)
    assert maximum is not None  # noqa: S101 - a Gate has exactly one bound
    return _Bound(maximum, is_minimum=False)


def describe(gate: Gate) -> str:
    """The gate as a formula, such as ``exact_match on heldout: candidate - base >= 0.1``."""
    left = f"candidate - {gate.versus}" if gate.versus else "candidate"
    return f"{gate.measured} on {gate.on}: {left} {_bound(gate)}"


def _judge(gate: Gate, measured: Measured, production: str | None) -> GateResult:
    bound = _bound(gate)
    result: dict[str, Any] = {"gate": describe(gate), "threshold": bound.value}
    if production is None and (gate.versus == "production" or gate.on == "production_heldout"):
        return GateResult(
            **result, passed=True, observed=None, reason="nothing is in production, so there is nothing to compare with"
        )
    candidate, problem = _metric(gate, measured, "candidate")
    if candidate is None:
        return GateResult(**result, passed=False, observed=None, reason=problem)
    if gate.versus is None:
        return GateResult(
            **result, passed=bound.holds(candidate), observed=candidate,
            reason=_compare(f"candidate {candidate:.4g}", candidate, bound),
        )
    other, problem = _metric(gate, measured, gate.versus)
    if other is None:
        return GateResult(**result, passed=False, observed=None, reason=problem)
    # 0.3 - 0.2 is less than 0.1 in binary; no person means that.
    delta = round(candidate - other, 12)
    name = f"production ({production})" if gate.versus == "production" else gate.versus
    return GateResult(
        **result, passed=bound.holds(delta), observed=delta,
        reason=_compare(f"candidate {candidate:.4g} - {name} {other:.4g} = {delta:+.4g}", delta, bound),
    )


def _metric(gate: Gate, measured: Measured, subject: Any) -> tuple[float | None, str]:
    """The finite value of the gate's metric for a subject; or None and why there is none."""
    what = f"{gate.measured} of {subject} on {gate.on}"
    value = measured.get(Target(subject, gate.on), {}).get(gate.measured)
    if value is None:
        return None, f"{what} was not measured"
    if not math.isfinite(value):
        return None, f"{what} is {value}, which no gate accepts"
    return value, ""


def _compare(what: str, observed: float, bound: _Bound) -> str:
    if bound.holds(observed):
        return f"{what} is {'at least' if bound.is_minimum else 'at most'} {bound.value:g}"
    return f"{what} is {'below' if bound.is_minimum else 'above'} {bound.value:g}"
