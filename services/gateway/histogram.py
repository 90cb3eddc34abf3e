"""A histogram for one thread: a stream observes each gap between tokens, where prometheus_client takes two locks."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import inf

from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


class Series:
    """One series: how often a value fell below each bound and not below the one before it, and the sum."""

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


class Histogram(Collector):
    """Series by label values, exposed as prometheus_client exposes its own (but for the creation times)."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._bounds = tuple(float(bound) for bound in buckets)
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """The series of these labels, created at 0 on first sight."""
        return self._series.setdefault(values, Series(self._bounds))

    def remove(self, *values: str) -> None:
        """Forget a series."""
        self._series.pop(values, None)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What is exposed."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, series in self._series.items():
            family.add_metric(values, series.buckets(), series.sum)
        yield family
