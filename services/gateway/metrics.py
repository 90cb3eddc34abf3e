"""Per-adapter metrics: what rollout's analysis and the dashboards read. Model servers have none of them per adapter.

A target's children are looked up once per change of the route table, so that a request only increments. Every
counter of a target begins at 0 when its route arrives: a series that appears with its first error would hide that error
from ``increase()``.
"""

import time
from collections.abc import Callable, Set
from typing import Literal, get_args

from prometheus_client import CollectorRegistry
from prometheus_client import Gauge as PlainGauge
from prometheus_client.process_collector import ProcessCollector

from services.gateway.answer_metrics import AnswerMetrics
from services.gateway.plan import Plan, RoutePlan
from services.gateway.series import Counter, Gauge, Histogram
from services.gateway.sse import token_counts
from services.gateway.unit_events import UnitEvents
from shared import gateway_metrics as names
from shared.gateway_metrics import (
    DURATION_BOUNDS,
    EVENT_FIRST_TOKEN,
    EVENT_INTER_TOKEN,
    EVENT_LATENCY,
    FIRST_TOKEN_BOUNDS,
    INTER_TOKEN_BOUNDS,
)

Outcome = Literal["ok", "error", "rejected"]

ShadowOutcome = Literal["ok", "error", "rejected", "timeout", "dropped", "unclear"]
Verdict = Literal["good", "neutral", "bad"]

_OUTCOMES: tuple[Outcome, ...] = ("ok", "error", "rejected")
_SHADOW_OUTCOMES: tuple[ShadowOutcome, ...] = get_args(ShadowOutcome)
_PAIRS = tuple((metric, result) for metric in names.PAIRED for result in names.PAIR_RESULTS)
# Refusals that are the gateway's own doing, which somebody wants to hear of; the others are clients' mistakes.
_TURNED_AWAY = ("overloaded", "no_route_table")
_VERDICTS: tuple[Verdict, ...] = ("good", "neutral", "bad")
# Versions of a route that left it and whose series stay, so that whoever analyses the end of a rollout still sees them.
RETIRED_KEPT = 8


class TargetMetrics:
    """The series of one model version of a route."""

    __slots__ = ("_completion", "_key", "_outcomes", "_prompt", "_score", "_unit_events", "_verdicts", "answers",
                 "duration", "first_token", "inter_token", "mean_gap", "units")

    def __init__(self, metrics: "GatewayMetrics", route: str, label: str) -> None:
        self._outcomes = {outcome: metrics.requests.labels(route, label, outcome) for outcome in _OUTCOMES}
        self._prompt, self._completion = (
            metrics.tokens.labels(route, label, kind) for kind in ("prompt", "completion")
        )
        self._verdicts = {verdict: metrics.feedback.labels(route, label, verdict) for verdict in _VERDICTS}
        self._score = metrics.feedback_score.labels(route, label)
        self.answers = metrics.answers.of(route, label)
        self.duration = metrics.duration.labels(route, label)
        self.first_token = metrics.first_token.labels(route, label)
        self.inter_token = metrics.inter_token.labels(route, label)
        self.mean_gap = metrics.mean_gap.labels(route, label)
        self.units = metrics.units.labels(route, label)
        self._key = route, label
        self._unit_events = metrics.unit_events

    # `unit` is the fingerprint of a request's unit, `begun` when the exchange began.

    def failed(self, unit: int, begun: float) -> None:
        """An exchange ended as an error."""
        self._unit_events.failed(*self._key, unit, begun)

    def answered(self, unit: int, begun: float, seconds: float) -> None:
        """A whole answer took so long."""
        self.duration.observe(seconds)
        self._unit_events.slow(*self._key, unit, begun, event=EVENT_LATENCY, seconds=seconds)

    def first_output(self, unit: int, begun: float, seconds: float) -> None:
        """A stream began to answer after so long."""
        self.first_token.observe(seconds)
        self._unit_events.slow(*self._key, unit, begun, event=EVENT_FIRST_TOKEN, seconds=seconds)

    def paced(self, unit: int, begun: float, seconds: float) -> None:
        """A stream took so long between two outputs, on average."""
        self.mean_gap.observe(seconds)
        self._unit_events.slow(*self._key, unit, begun, event=EVENT_INTER_TOKEN, seconds=seconds)

    def ended(self, outcome: Outcome) -> None:
        """A request ended."""
        self._outcomes[outcome].value += 1

    def judged(self, verdict: Verdict, score: float) -> None:
        """Somebody judged an answer, with a score from -1 to 1."""
        self._verdicts[verdict].value += 1
        self._score.value += (score + 1) / 2

    def used(self, usage: object) -> None:
        """Count the tokens of a `usage` object, if it is one."""
        prompt, completion = token_counts(usage)
        self._prompt.value += prompt
        self._completion.value += completion


class ShadowMetrics:
    """The series of a model version that gets copies of requests."""

    __slots__ = ("_outcomes", "duration", "pairs")

    def __init__(self, metrics: "GatewayMetrics", route: str, label: str) -> None:
        self._outcomes = {outcome: metrics.shadowed.labels(route, label, outcome) for outcome in _SHADOW_OUTCOMES}
        self.duration = metrics.shadow_duration.labels(route, label)
        self.pairs = {pair: metrics.shadow_pairs.labels(route, label, *pair) for pair in _PAIRS}

    def ended(self, outcome: ShadowOutcome) -> None:
        """A copy was answered, or was not."""
        self._outcomes[outcome].value += 1


class GatewayMetrics:
    """All series of one gateway.

    Args:
        max_units: units of a route that are known by each kind of event.
        now: Unix time.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, max_units: int = 100_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.unit_events = UnitEvents(self.registry, max_units)
        self.answers = AnswerMetrics(self.registry)
        target = ["route", "model_version"]
        self.requests = Counter(
            names.REQUESTS, "Requests by outcome: ok, error (not the client's fault), rejected (the client's)",
            [*target, "outcome"], registry=self.registry,
        )
        self.duration = Histogram(
            names.DURATION, "From the whole request to the last byte, successful requests", target,
            buckets=DURATION_BOUNDS, registry=self.registry,
        )
        self.first_token = Histogram(
            names.FIRST_TOKEN, "From the whole request to the first output of a stream", target,
            buckets=FIRST_TOKEN_BOUNDS, registry=self.registry,
        )
        self.inter_token = Histogram(
            names.INTER_TOKEN, "Between two output events of a stream", target,
            buckets=INTER_TOKEN_BOUNDS, registry=self.registry,
        )
        self.mean_gap = Histogram(
            names.MEAN_GAP, "The same on average over a whole stream, one for each", target,
            buckets=INTER_TOKEN_BOUNDS, registry=self.registry,
        )
        self.tokens = Counter(
            names.TOKENS, "Tokens that answers' usage reports", [*target, "kind"], registry=self.registry
        )
        self.feedback = Counter(
            names.FEEDBACK, "Answers by what was thought of them first: good, neutral, bad",
            [*target, "verdict"], registry=self.registry,
        )
        self.feedback_score = Counter(
            names.FEEDBACK_SCORE, "Scores of the same judgements, summed: 0 for as bad as can be, 1 for as good",
            target, registry=self.registry,
        )
        self.shadowed = Counter(
            names.SHADOW, "Copies of requests to a shadow: ok, error, rejected, timeout, dropped, unclear",
            [*target, "outcome"], registry=self.registry,
        )
        self.shadow_pairs = Counter(
            names.SHADOW_PAIRS, "Copied requests by which of the two answers was bad: alike, copy_worse, primary_worse",
            [*target, "metric", "result"], registry=self.registry,
        )
        self.shadow_duration = Histogram(
            names.SHADOW_DURATION, "From sending a copy to the last byte of its answer, outcome ok", target,
            buckets=DURATION_BOUNDS, registry=self.registry,
        )
        self.units = Gauge(
            names.UNITS, "Distinct units (users) under the route's present salt", target, registry=self.registry
        )
        self.weight = Gauge(
            f"{names.PREFIX}route_weight", "Share of the route in effect, basis points", [*target, "role"],
            registry=self.registry,
        )
        self.replicas = Gauge(
            names.ROUTE_REPLICAS, "Model servers that confirmed the version", [*target, "role"], registry=self.registry
        )
        self.ejections = Counter(
            names.EJECTIONS, "Times that a breaker opened for a model server", ["replica"], registry=self.registry
        )
        self.revision = Gauge(
            names.ROUTE_REVISION, "Revision of the route in effect", ["route"], registry=self.registry
        )
        self.split_since = Gauge(
            names.SPLIT_SINCE, "Since when versions have their present weights, Unix time", ["route"],
            registry=self.registry,
        )
        self.unrouted = Counter(
            f"{names.PREFIX}unrouted_total", "Requests refused before a model version was chosen", ["code"],
            registry=self.registry,
        )
        for code in _TURNED_AWAY:
            self.unrouted.labels(code)
        self.in_flight = PlainGauge(f"{names.PREFIX}in_flight", "Requests in flight", registry=self.registry)
        self._targets: dict[tuple[str, str], TargetMetrics] = {}
        self._shadows: dict[tuple[str, str], ShadowMetrics] = {}
        self._weights: set[tuple[str, str, str]] = set()
        self._replicas: set[str] = set()
        self._splits: dict[str, dict[str, int]] = {}
        self._now = now
        self._retired: dict[str, list[str]] = {}

    def target(self, route: str, label: str) -> TargetMetrics:
        """The series of a model version, created at 0 on first sight."""
        found = self._targets.get((route, label))
        if found is None:
            found = self._targets[route, label] = TargetMetrics(self, route, label)
        return found

    def shadow(self, route: str, label: str) -> ShadowMetrics:
        """The series of a shadow, created at 0 on first sight; most versions never are one."""
        found = self._shadows.get((route, label))
        if found is None:
            found = self._shadows[route, label] = ShadowMetrics(self, route, label)
        return found

    def use(self, plan: Plan) -> None:
        """Bring the series in line with the routes that are served from now on."""
        self.unit_events.use(plan)
        weights: set[tuple[str, str, str]] = set()
        for name, route in plan.routes.items():
            self.revision.labels(name).value = route.spec.revision
            for target in route.targets.values():
                self.target(name, target.label)
                if target.shadow_share > 0:
                    self.shadow(name, target.label)
                self.weight.labels(name, target.label, target.role).value = target.effective_weight
                self.replicas.labels(name, target.label, target.role).value = len(target.endpoints)
                weights.add((name, target.label, target.role))
            self._mark_split(name, route)
            self._retire(name, route)
        for gone in self._weights - weights:
            self.weight.remove(*gone)
            self.replicas.remove(*gone)
        self._weights = weights
        self._know_replicas(plan.replicas())

    def ejected(self, replica: str) -> None:
        """A model server failed so often that it is skipped for a while."""
        self.ejections.labels(replica).value += 1

    def _know_replicas(self, present: Set[str]) -> None:
        """Begin the series of new ones at 0, and end those of model servers that are gone."""
        for replica in present:
            self.ejections.labels(replica)
        for replica in self._replicas - present:
            self.ejections.remove(replica)
        self._replicas = set(present)

    def _mark_split(self, name: str, route: RoutePlan) -> None:
        """A version without weight that comes or goes is no change."""
        split = {target.label: target.effective_weight for target in route.targets.values() if target.effective_weight}
        if self._splits.get(name) != split:
            self._splits[name] = split
            self.split_since.labels(name).value = self._now()

    def _retire(self, name: str, route: RoutePlan) -> None:
        """Drop the series of versions that left the route long ago, or /metrics would grow with every adapter."""
        present = {target.label for target in route.targets.values()}
        known = [label for owner, label in self._targets if owner == name]
        retired = [label for label in self._retired.get(name, []) if label not in present]
        retired += [label for label in known if label not in present and label not in retired]
        for label in retired[:-RETIRED_KEPT]:
            self._remove(name, label)
        self._retired[name] = retired[-RETIRED_KEPT:]

    def _remove(self, route: str, label: str) -> None:
        del self._targets[route, label]
        self.unit_events.remove(route, label)
        for outcome in _OUTCOMES:
            self.requests.remove(route, label, outcome)
        for kind in ("prompt", "completion"):
            self.tokens.remove(route, label, kind)
        for verdict in _VERDICTS:
            self.feedback.remove(route, label, verdict)
        if self._shadows.pop((route, label), None) is not None:
            for shadow_outcome in _SHADOW_OUTCOMES:
                self.shadowed.remove(route, label, shadow_outcome)
            for pair in _PAIRS:
                self.shadow_pairs.remove(route, label, *pair)
            self.shadow_duration.remove(route, label)
        self.feedback_score.remove(route, label)
        for series in (self.answers, self.duration, self.first_token, self.inter_token, self.mean_gap, self.units):
            series.remove(route, label)
