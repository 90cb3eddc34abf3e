"""What each guardrail reads from the gateway's metrics, and how its samples become bad events over a total. Pure.

    errors    bad = requests with outcome "error" (5xx, reset, timeout upstream), total = those and the "ok" ones
    latency   bad = requests that took longer than `sloSeconds` = count - bucket{le=slo}, total = count

A rejected request (4xx) is the client's own doing and in neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.rollout.analysis import Bounds
from services.rollout.counts import Reading
from shared.pipeline import Guardrail

REQUESTS = "tuneloop_gateway_requests_total"
DURATION = "tuneloop_gateway_request_duration_seconds_bucket"
UNITS = "tuneloop_gateway_units_seen"


@dataclass(frozen=True)
class Sample:
    """The newest sample of one series: its labels without the metric's name, its value, its time in Unix seconds."""

    labels: dict[str, str] = field(hash=False)
    value: float
    at: float

    @property
    def target(self) -> str:
        return f"{self.labels.get('job', '')}/{self.labels.get('instance', '')}"


@dataclass(frozen=True)
class NoData:
    """Why a guardrail cannot be judged now. It is neither success nor failure.

    Attributes:
        kind: one word for logs and metrics, stable from look to look.
        reason: continues "no data because ...".
    """

    kind: str
    reason: str


def name_of(guardrail: Guardrail) -> str:
    """How people and metrics call it: ``errors``, ``latency>0.5s``."""
    return guardrail.metric if guardrail.slo_seconds is None else f"{guardrail.metric}>{guardrail.slo_seconds:g}s"


def bounds_of(guardrail: Guardrail) -> Bounds:
    """What its safety is measured against."""
    return Bounds(margin=guardrail.margin, tolerable=guardrail.tolerable_rate)


def selector_of(guardrail: Guardrail, route: str) -> str:
    """PromQL selector of all the series that it needs, of every model version of the route."""
    if guardrail.metric == "errors":
        return f'{REQUESTS}{{route="{route}",outcome=~"ok|error"}}'
    return f'{DURATION}{{route="{route}"}}'


def readings_of(guardrail: Guardrail, samples: Sequence[Sample], candidate: str) -> tuple[Reading, ...] | NoData:
    """The samples as readings of counters, or why they are no data.

    Args:
        samples: fresh samples of `selector_of`; at least one.
        candidate: its model version. Without its series there is nothing to judge. Stable's may be missing (where it
            has no traffic left): then only the tolerable rate can be tested.
    """
    for sample in samples:
        if not math.isfinite(sample.value) or sample.value < 0:
            return NoData("invalid", f"the counter {sample.labels} has the value {sample.value}")
    if guardrail.metric == "errors":
        readings = tuple(_outcome(sample) for sample in samples)
    else:
        assert guardrail.slo_seconds is not None  # noqa: S101 - the spec demands it for latency
        bounds = {float(sample.labels["le"]) for sample in samples}
        if guardrail.slo_seconds not in bounds:
            has = ", ".join(f"{bound:g}" for bound in sorted(bounds))
            return NoData("no_bucket", f"the histogram has no bucket le={guardrail.slo_seconds:g}; it has {has}")
        readings = tuple(r for sample in samples if (r := _bucket(sample, guardrail.slo_seconds)) is not None)
    if not any(reading.version == candidate for reading in readings):
        return NoData("no_candidate", f"there are no fresh samples of {candidate}")
    return readings


def _outcome(sample: Sample) -> Reading:
    outcome = sample.labels["outcome"]
    return Reading(
        target=sample.target, version=sample.labels["model_version"], cell=outcome, value=sample.value,
        bad=int(outcome == "error"), total=1,
    )


def _bucket(sample: Sample, slo: float) -> Reading | None:
    bound = float(sample.labels["le"])
    if bound not in (slo, math.inf):
        return None
    whole = int(bound == math.inf)
    return Reading(
        target=sample.target, version=sample.labels["model_version"], cell=f"le={bound:g}", value=sample.value,
        bad=1 if whole else -1, total=whole,
    )
