"""Metrics for one thread: plain numbers, where prometheus_client takes a lock or two for each of them.

A request counts half a dozen things and a stream observes each gap between tokens. Exposed as prometheus_client exposes
its own, but for the creation times.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Generic, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry


class Number:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Distribution:
    """One series of a histogram: how often a value fell below each bound and not below the one before it; the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound."""
        total, found = 0, []
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            total += count
            found.append((str(bound) if bound != inf else "+Inf", float(total)))
        return found


S = TypeVar("S")


class _Family(Collector, Generic[S]):
    """Series by label values."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, make: Callable[[], S],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}
        registry.register(self)

    def labels(self, *values: str) -> S:
        """The series of these labels, created at 0 on first sight."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = self._make()
        return found

    def remove(self, *values: str) -> None:
        """Forget a series."""
        self._series.pop(values, None)


class _Numbers(_Family[Number]):
    _kind: type[CounterMetricFamily] | type[GaugeMetricFamily]

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        super().__init__(name, documentation, labels, make=Number, registry=registry)

    def collect(self) -> Iterable[Metric]:
        """What is exposed."""
        family = self._kind(self._name, self._documentation, labels=self._labels)
        for values, series in self._series.items():
            family.add_metric(values, series.value)
        yield family


class Counter(_Numbers):
    """Numbers that only grow."""

    _kind = CounterMetricFamily


class Gauge(_Numbers):
    """Numbers that also fall."""

    _kind = GaugeMetricFamily


class Histogram(_Family[Distribution]):
    """Distributions."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        bounds = tuple(float(bound) for bound in buckets)
        super().__init__(name, documentation, labels, make=lambda: Distribution(bounds), registry=registry)

    def collect(self) -> Iterable[Metric]:
        """What is exposed."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, series in self._series.items():
            family.add_metric(values, series.buckets(), series.sum)
        yield family
