"""What each guardrail, A/B test and objective counts. Pure; queries.py asks for it, and readings.py reads the answers.

    errors               requests with outcome "error" over those and the "ok" ones
    thumbs_down          judgements "bad" over all judgements
    refusals             refused answers over all whole answers
    invalid_output       invalid structured answers over those that were checked
    latency              ok requests that took longer than `sloSeconds`, over all ok requests: count - bucket{le=slo}
    time_to_first_token  the same of streams' first output
    inter_token          the same of a stream's mean time between two outputs: one event for each request, because the
                         gaps of one stream are as slow as each other, and would be taken for that much evidence
    promql               two sums of counters (shared/promql.py), read for each version by itself

In a step with copies (`shadow`) errors and latency are those of the copies, against stable's traffic, or against the
control's copies of the same requests; the others see nothing. A rejected request (4xx) is the client's own doing and
in none of them. The gateway shows all cells of a version from the start, so a cell that is missing is a fault and not
a zero.
"""

from dataclasses import dataclass

from services.rollout.analysis import Bounds
from shared import gateway_metrics as gateway
from shared.pipeline import Counted, Guardrail, RolloutPolicy


@dataclass(frozen=True)
class Cells:
    """A counter with a label whose values are good or bad."""

    name: str
    label: str
    good: tuple[str, ...]
    bad: tuple[str, ...]


COUNTERS = {
    "errors": Cells(gateway.REQUESTS, "outcome", ("ok",), ("error",)),
    "thumbs_down": Cells(gateway.FEEDBACK, "verdict", ("good", "neutral"), ("bad",)),
    "refusals": Cells(gateway.ANSWERS, "kind", ("answered",), ("refused",)),
    "invalid_output": Cells(gateway.STRUCTURED, "result", ("valid",), ("invalid",)),
}
# Of a mean, as the expressions of a `promql`: what is summed, and how many there were.
_MEANS = {
    "feedback_score": (
        f'{gateway.FEEDBACK_SCORE}{{route="$route",model_version="$version"}}',
        f'{gateway.FEEDBACK}{{route="$route",model_version="$version"}}',
    ),
}
HISTOGRAMS = {
    "latency": gateway.DURATION,
    "time_to_first_token": gateway.FIRST_TOKEN,
    "inter_token": gateway.MEAN_GAP,
}
# What the gateway counts of copies. A copy whose primary went well and that is rejected is the candidate's fault.
COPIES: dict[str, Cells | str] = {
    "errors": Cells(gateway.SHADOW, "outcome", ("ok",), ("error", "timeout", "rejected")),
    "latency": gateway.SHADOW_DURATION,
}
# Their totals are a version's requests, which is what `minRequests` means. (Streams or judgements may be few.)
_OF_REQUESTS = frozenset({"errors", "latency", "refusals"})


def counted_in(policy: RolloutPolicy) -> list[Counted]:
    """All that a policy wants counted, each once: what the candidate shall be better at may be guarded as well."""
    guarded = {guardrail.called for guardrail in policy.guardrails}
    return [*policy.guardrails, *(goal for goal in policy.goals if goal.called not in guarded)]


def bounds_of(guardrail: Guardrail) -> Bounds:
    """What its safety is measured against."""
    return Bounds(margin=guardrail.margin, tolerable=guardrail.tolerable_rate)


def is_mean(counted: Counted) -> bool:
    """Whether it is a mean of values in [0, 1], and no share of events."""
    return counted.metric in _MEANS


def counts_requests(guardrail: Counted) -> bool:
    """Whether its total is the version's requests."""
    return guardrail.metric in _OF_REQUESTS


def judges_copies(guardrail: Counted) -> bool:
    """Whether it can be judged by copies of requests."""
    return guardrail.metric in COPIES


def expressions(guardrail: Counted) -> tuple[str, str] | None:
    """PromQL of bad events (or what a mean sums) and of all; None for what has a counter of its own."""
    if guardrail.metric == "promql":
        return guardrail.bad or "", guardrail.total or ""
    return _MEANS.get(guardrail.metric)
