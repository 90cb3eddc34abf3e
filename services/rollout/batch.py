"""One query of Prometheus per metric for all rollouts, instead of one per metric and rollout.

A controller with 200 rollouts asks the same counters 200 times, each time for another route, and spends most of its
time on HTTP. Here the first look of a pass asks for all routes that have a rollout, and the others are answered from
that. What is answered is never older than the last look at the same rollout: counters that seemed to fall would be
taken for counters that began anew.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.rollout.prometheus import Prometheus
from services.rollout.samples import NoData, Sample

# A pass over all rollouts is meant to take less than this, also on a slow disk: a longer one asks again and again,
# which makes it longer still. Looks come later by as much at most.
MAX_AGE = timedelta(seconds=3)
# How far the clocks of two controllers may be apart, when one takes over from the other.
SKEW = timedelta(seconds=1)
# Longer alternations make a query that is slow to plan.
CHUNK = 500

_SELECTOR = re.compile(r'(?P<metric>\w+)\{route="(?P<route>[a-z0-9-]+)"(?P<rest>(?:,[^{}]*)?)\}')


@dataclass(frozen=True)
class _Answer:
    """What one query for all routes found, by route; or why it found nothing."""

    at: datetime
    routes: frozenset[str]
    found: Mapping[str, Sequence[Sample]] | NoData


class Batch:
    """Samples for all rollouts of one controller.

    Args:
        routes: the routes that have a rollout in flight; asked before each query.
    """

    def __init__(self, prometheus: Prometheus, routes: Callable[[], Sequence[str]]) -> None:
        self._prometheus = prometheus
        self._routes = routes
        self._answers: dict[tuple[str, str], _Answer] = {}

    def after(self, last_look: datetime | None) -> "Since":
        """Samples for a rollout that was last looked at then."""
        return Since(self, last_look)

    def newest(self, selector: str, now: datetime, last_look: datetime | None) -> Sequence[Sample] | NoData:
        """The newest fresh sample of each series that `selector` matches; or why there are none."""
        match = _SELECTOR.fullmatch(selector)
        if match is None or "model_version" in match["rest"]:  # of one rollout only
            return self._prometheus.newest(selector, now)
        route, shape = match["route"], (match["metric"], match["rest"])
        answer = self._answers.get(shape)
        if answer is None or route not in answer.routes or not _usable(answer.at, now, last_look):
            routes = frozenset(self._routes())
            if len(routes) < 2 or route not in routes:
                return self._prometheus.newest(selector, now)
            answer = self._answers[shape] = _Answer(now, routes, self._ask(shape, routes, now))
        if isinstance(answer.found, NoData):
            return answer.found
        # Without samples: asked by itself, to hear whether they are old or were never there.
        return answer.found.get(route) or self._prometheus.newest(selector, now)

    def _ask(
        self, shape: tuple[str, str], routes: frozenset[str], now: datetime
    ) -> Mapping[str, Sequence[Sample]] | NoData:
        metric, rest = shape
        by_route: dict[str, list[Sample]] = defaultdict(list)
        ordered = sorted(routes)
        for start in range(0, len(ordered), CHUNK):
            names = "|".join(ordered[start : start + CHUNK])
            found = self._prometheus.fresh(f'{metric}{{route=~"{names}"{rest}}}', now)
            if isinstance(found, NoData):
                return found
            for sample in found:
                by_route[sample.labels.get("route", "")].append(sample)
        return by_route


class Since:
    """A `Batch` as one look sees it."""

    def __init__(self, batch: Batch, last_look: datetime | None) -> None:
        self._batch = batch
        self._last_look = last_look

    def newest(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        return self._batch.newest(selector, now, self._last_look)


def _usable(at: datetime, now: datetime, last_look: datetime | None) -> bool:
    return now - at <= MAX_AGE and (last_look is None or at >= last_look + SKEW)
