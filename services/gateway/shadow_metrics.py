"""What is counted of a model version that gets copies of requests."""

from typing import Literal, get_args

from prometheus_client import CollectorRegistry

from services.gateway.series import Counter, Histogram
from shared import gateway_metrics as names

ShadowOutcome = Literal["ok", "error", "rejected", "timeout", "dropped", "unclear"]

_OUTCOMES: tuple[ShadowOutcome, ...] = get_args(ShadowOutcome)
_PAIRS = tuple((metric, result) for metric in names.PAIRED for result in names.PAIR_RESULTS)


class ShadowMetrics:
    """The series of a model version that gets copies of requests."""

    __slots__ = ("_outcomes", "duration", "pairs")

    def __init__(self, series: "ShadowSeries", route: str, label: str) -> None:
        self._outcomes = {outcome: series.copies.labels(route, label, outcome) for outcome in _OUTCOMES}
        self.duration = series.duration.labels(route, label)
        self.pairs = {pair: series.pairs.labels(route, label, *pair) for pair in _PAIRS}

    def ended(self, outcome: ShadowOutcome) -> None:
        """A copy was answered, or was not."""
        self._outcomes[outcome].value += 1


class ShadowSeries:
    """The series of all of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        target = ["route", "model_version"]
        self.copies = Counter(
            names.SHADOW, f"Copies of requests to a shadow: {', '.join(_OUTCOMES)}", [*target, "outcome"],
            registry=registry,
        )
        self.pairs = Counter(
            names.SHADOW_PAIRS, "Copied requests by which of the two answers was bad: alike, copy_worse, primary_worse",
            [*target, "metric", "result"], registry=registry,
        )
        self.duration = Histogram(
            names.SHADOW_DURATION, "From sending a copy to the last byte of its answer, outcome ok", target,
            buckets=names.DURATION_BOUNDS, registry=registry,
        )

    def remove(self, route: str, label: str) -> None:
        """Forget a version."""
        for outcome in _OUTCOMES:
            self.copies.remove(route, label, outcome)
        for pair in _PAIRS:
            self.pairs.remove(route, label, *pair)
        self.duration.remove(route, label)
