"""One query for all routes answers like one for each, and never with something older than the last look."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.rollout.batch import Batch
from services.rollout.prometheus import Prometheus
from services.rollout.samples import NoData, Sample
from shared.gateway_metrics import REQUESTS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Recorded(Prometheus):
    """Counters of some routes, and what was asked."""

    def __init__(self, *routes: str) -> None:
        super().__init__("http://127.0.0.1:1", timeout=1, stale_after=30)
        self.counters = dict.fromkeys(routes, 0.0)
        self.asked: list[str] = []
        self.fault: NoData | None = None

    def newest(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        return self._answer(selector, now) or NoData("empty", f"Prometheus has no series {selector}")

    def fresh(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        return self._answer(selector, now)

    def _answer(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        self.asked.append(selector)
        if self.fault is not None:
            return self.fault
        return [Sample({"route": route}, value, now.timestamp()) for route, value in self.counters.items()
                if f'"{route}"' in selector or f"{route}|" in selector or f"|{route}" in selector]


def values(batch: Batch, route: str, now: datetime, last_look: datetime | None = None) -> list[float] | NoData:
    found = batch.after(last_look).newest(f'{REQUESTS}{{route="{route}",outcome=~"ok|error"}}', now)
    return found if isinstance(found, NoData) else [sample.value for sample in found]


def test_one_query_serves_a_pass_and_each_route_gets_its_own() -> None:
    prometheus = Recorded("aa", "bb", "cc")
    prometheus.counters.update(aa=1, bb=2)
    batch = Batch(prometheus, lambda: ["aa", "bb"])
    assert [values(batch, "aa", NOW), values(batch, "bb", NOW + timedelta(seconds=2.9))] == [[1], [2]]
    assert prometheus.asked == [f'{REQUESTS}{{route=~"aa|bb",outcome=~"ok|error"}}']
    values(batch, "aa", NOW + timedelta(seconds=3.1))
    assert len(prometheus.asked) == 2


def test_a_route_that_came_since_is_asked_for() -> None:
    prometheus = Recorded("aa", "bb", "cc")
    routes = ["aa", "bb"]
    batch = Batch(prometheus, lambda: routes)
    values(batch, "aa", NOW)
    routes.append("cc")
    assert values(batch, "cc", NOW) == [0]


def test_counters_never_seem_to_fall_because_an_answer_is_old() -> None:
    """Another controller looked at it a moment ago, and saw more than this one remembers."""
    prometheus = Recorded("aa", "bb")
    batch = Batch(prometheus, lambda: ["aa", "bb"])
    values(batch, "bb", NOW)
    prometheus.counters["aa"] = 7
    looked, now = NOW + timedelta(seconds=0.3), NOW + timedelta(seconds=0.5)
    assert values(batch, "aa", now, looked) == [7]


def test_a_fault_is_everybodys_and_asked_once() -> None:
    prometheus = Recorded("aa", "bb")
    prometheus.fault = NoData("timeout", "Prometheus did not answer within 10 s")
    batch = Batch(prometheus, lambda: ["aa", "bb"])
    assert [values(batch, "aa", NOW), values(batch, "bb", NOW)] == [prometheus.fault] * 2
    assert len(prometheus.asked) == 1


def test_what_is_missing_is_asked_for_by_itself_to_hear_why() -> None:
    prometheus = Recorded("aa")
    batch = Batch(prometheus, lambda: ["aa", "bb"])
    found = values(batch, "bb", NOW)
    assert isinstance(found, NoData)
    assert 'route="bb"' in found.reason


def test_a_single_rollout_asks_for_itself_only() -> None:
    prometheus = Recorded("aa", "bb")
    batch = Batch(prometheus, lambda: ["aa"])
    assert values(batch, "aa", NOW) == [0]
    assert prometheus.asked == [f'{REQUESTS}{{route="aa",outcome=~"ok|error"}}']
