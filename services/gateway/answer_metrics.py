"""Counts of what answers show, per model version: refusals, and structured output that is what was asked for or not."""

from collections.abc import Iterable

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from services.gateway.answers import Structured
from shared.gateway_metrics import ANSWERS, STRUCTURED


class AnswerCounts:
    """Of one model version: plain numbers. Whoever calls `given`, or `checked`, from several threads locks."""

    __slots__ = ("answered", "refused", "structured")

    def __init__(self) -> None:
        self.answered = self.refused = 0
        self.structured: dict[Structured, int] = {"valid": 0, "invalid": 0, "unchecked": 0}

    def given(self, *, refused: bool) -> None:
        """A whole answer went out."""
        if refused:
            self.refused += 1
        else:
            self.answered += 1

    def checked(self, result: Structured) -> None:
        """An answer was compared with the format that was asked for."""
        self.structured[result] += 1


class AnswerMetrics(Collector):
    """The counts of all model versions, as two counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: dict[tuple[str, str], AnswerCounts] = {}
        registry.register(self)

    def of(self, route: str, label: str) -> AnswerCounts:
        """The counts of a model version, from 0 on first sight."""
        return self._counts.setdefault((route, label), AnswerCounts())

    def remove(self, route: str, label: str) -> None:
        """Forget a model version."""
        self._counts.pop((route, label), None)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What is exposed."""
        target = ["route", "model_version"]
        answers = CounterMetricFamily(ANSWERS, "Whole answers: answered, refused", labels=[*target, "kind"])
        structured = CounterMetricFamily(
            STRUCTURED, "Answers to requests with a response_format: valid, invalid, unchecked",
            labels=[*target, "result"],
        )
        for key, counts in tuple(self._counts.items()):
            answers.add_metric([*key, "answered"], counts.answered)
            answers.add_metric([*key, "refused"], counts.refused)
            for result, count in counts.structured.items():
                structured.add_metric([*key, result], count)
        yield answers
        yield structured
