"""What is counted of each model version of a route: its answers, how long they took, what was thought of them.

A version's children are looked up once per change of the route table, so that a request only increments. Every counter
begins at 0 when its route arrives: a series that appears with its first error would hide that error from
``increase()``.
"""

from typing import Literal

from prometheus_client import CollectorRegistry

from services.gateway.answer_metrics import AnswerMetrics
from services.gateway.series import Counter, Gauge, Histogram
from services.gateway.sse import token_counts
from services.gateway.unit_events import UnitEvents
from shared import gateway_metrics as names

Outcome = Literal["ok", "error", "rejected"]
Verdict = Literal["good", "neutral", "bad"]

_OUTCOMES: tuple[Outcome, ...] = ("ok", "error", "rejected")
_KINDS = ("prompt", "completion")
_VERDICTS: tuple[Verdict, ...] = ("good", "neutral", "bad")


class TargetMetrics:
    """The series of one model version of a route."""

    __slots__ = ("_completion", "_key", "_outcomes", "_prompt", "_score", "_unit_events", "_verdicts", "answers",
                 "duration", "first_token", "inter_token", "mean_gap", "units")

    def __init__(self, series: "TargetSeries", route: str, label: str) -> None:
        self._outcomes = {outcome: series.requests.labels(route, label, outcome) for outcome in _OUTCOMES}
        self._prompt, self._completion = (
            series.tokens.labels(route, label, kind) for kind in _KINDS
        )
        self._verdicts = {verdict: series.feedback.labels(route, label, verdict) for verdict in _VERDICTS}
        self._score = series.feedback_score.labels(route, label)
        self.answers = series.answers.of(route, label)
        self.duration = series.duration.labels(route, label)
        self.first_token = series.first_token.labels(route, label)
        self.inter_token = series.inter_token.labels(route, label)
        self.mean_gap = series.mean_gap.labels(route, label)
        self.units = series.units.labels(route, label)
        self._key = route, label
        self._unit_events = series.unit_events

    # `unit` is the fingerprint of a request's unit, `begun` when the exchange began.

    def failed(self, unit: int, begun: float) -> None:
        """An exchange ended as an error."""
        self._unit_events.failed(*self._key, unit, begun)

    def answered(self, unit: int, begun: float, seconds: float) -> None:
        """A whole answer took so long."""
        self.duration.observe(seconds)
        self._unit_events.slow(*self._key, unit, begun, event=names.EVENT_LATENCY, seconds=seconds)

    def given(self, unit: int, begun: float, *, refused: bool) -> None:
        """A whole answer went out."""
        self.answers.given(refused=refused)
        if refused:
            self._unit_events.badly(*self._key, unit, begun, event=names.EVENT_REFUSALS)

    def first_output(self, unit: int, begun: float, seconds: float) -> None:
        """A stream began to answer after so long."""
        self.first_token.observe(seconds)
        self._unit_events.slow(*self._key, unit, begun, event=names.EVENT_FIRST_TOKEN, seconds=seconds)

    def paced(self, unit: int, begun: float, seconds: float) -> None:
        """A stream took so long between two outputs, on average."""
        self.mean_gap.observe(seconds)
        self._unit_events.slow(*self._key, unit, begun, event=names.EVENT_INTER_TOKEN, seconds=seconds)

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


class TargetSeries:
    """The series of all model versions."""

    def __init__(self, registry: CollectorRegistry, unit_events: UnitEvents) -> None:
        self.unit_events = unit_events
        self.answers = AnswerMetrics(registry)
        target = ["route", "model_version"]
        self.requests = Counter(
            names.REQUESTS, "Requests by outcome: ok, error (not the client's fault), rejected (the client's)",
            [*target, "outcome"], registry=registry,
        )
        self.tokens = Counter(names.TOKENS, "Tokens that answers' usage reports", [*target, "kind"], registry=registry)
        self.feedback = Counter(
            names.FEEDBACK, "Answers by what was thought of them first: good, neutral, bad",
            [*target, "verdict"], registry=registry,
        )
        self.feedback_score = Counter(
            names.FEEDBACK_SCORE, "Scores of the same judgements, summed: 0 for as bad as can be, 1 for as good",
            target, registry=registry,
        )
        self.units = Gauge(
            names.UNITS, "Distinct units (users) under the route's present salt", target, registry=registry
        )

        def seconds(name: str, what: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, target, buckets=bounds, registry=registry)

        self.duration = seconds(
            names.DURATION, "From the whole request to the last byte, successful requests", names.DURATION_BOUNDS
        )
        self.first_token = seconds(
            names.FIRST_TOKEN, "From the whole request to the first output of a stream", names.FIRST_TOKEN_BOUNDS
        )
        self.inter_token = seconds(
            names.INTER_TOKEN, "Between two output events of a stream", names.INTER_TOKEN_BOUNDS
        )
        self.mean_gap = seconds(
            names.MEAN_GAP, "The same on average over a whole stream, one for each", names.INTER_TOKEN_BOUNDS
        )

    def remove(self, route: str, label: str) -> None:
        """Forget a version."""
        for series, values in ((self.requests, _OUTCOMES), (self.tokens, _KINDS), (self.feedback, _VERDICTS)):
            for value in values:
                series.remove(route, label, value)
        for each in (self.unit_events, self.answers, self.feedback_score, self.units, self.duration, self.first_token,
                     self.inter_token, self.mean_gap):
            each.remove(route, label)
