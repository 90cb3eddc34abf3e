"""From the scrape that proves harm to weight 0 at every gateway: what is waited for, and what is then known."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from services.rollout.models import Rollout, Withdrawal
from services.rollout.views import WithdrawalView, rollout_view
from services.rollout.withdrawals import GIVE_UP, Gateways, Watcher
from shared.db import reading
from shared.gateway_metrics import ROUTE_REVISION, SPLIT_SINCE
from shared.reconcile import ReconcileLoop
from tests.support.rollout_stand import Stand

pytestmark = pytest.mark.integration


class Watch:
    """The loop that waits for gateways, and what they say of themselves."""

    def __init__(self, controller: Stand) -> None:
        self._controller = controller
        self._loop: ReconcileLoop[Withdrawal] = Watcher(
            controller.engine, Gateways(controller.client), controller.clock
        ).loop(owner="one")

    def look(self, **gateways: tuple[int, datetime | None]) -> WithdrawalView:
        """A look, a second later; each gateway serves a revision, and has its split since a time."""
        clock, series = self._controller.clock, self._controller.prometheus.series
        clock.advance(1)
        labels = {name: {"job": "gateway", "instance": name, "route": "intents"} for name in gateways}
        series[ROUTE_REVISION] = [(labels[name], str(of[0]), 0.5) for name, of in gateways.items()]
        series[SPLIT_SINCE] = [(labels[name], repr(of[1].timestamp()), 0.5) for name, of in gateways.items() if of[1]]
        self._loop.step()
        return self.view()

    def view(self) -> WithdrawalView:
        with reading(self._controller.engine) as session:
            row = session.get(Rollout, "intents-r1")
            assert row is not None
            view = rollout_view(session, row, self._controller.clock.now()).withdrawal
        assert view is not None
        return view


@pytest.fixture
def watch(controller: Stand) -> Watch:
    controller.begin()
    controller.load()
    controller.run(8)
    assert controller.weights()[-1] == {"base": 8000, "intents@1": 2000}
    return Watch(controller)


def harmed(controller: Stand) -> datetime:
    """Let the candidate fail until it is rolled back; the time of the scrape that showed it."""
    controller.bad_share = 0.5
    for _ in range(30):
        controller.run(1)
        if controller.phase() == "aborting":
            return controller.clock.now()
    raise AssertionError("it was not rolled back")


def counted(since: str) -> float:
    return REGISTRY.get_sample_value("tuneloop_rollout_withdrawal_seconds_count", {"since": since}) or 0.0


def given_up() -> float:
    return REGISTRY.get_sample_value("tuneloop_rollout_withdrawals_total", {"state": "unconfirmed"}) or 0.0


def test_one_action_returns_all_traffic_and_the_time_until_the_last_gateway_has_it_is_kept(
    controller: Stand, watch: Watch
) -> None:
    before, since_sample = len(controller.weights()), counted("sample")
    scraped = harmed(controller)
    assert controller.weights()[before:] == [{"base": 10_000, "intents@1": 0}]
    revision = controller.route()["revision"]
    first, last = scraped + timedelta(seconds=1.5), scraped + timedelta(seconds=2.25)

    told = watch.look(a=(revision, first), b=(revision - 1, scraped - timedelta(minutes=1)))
    assert (told.state, told.confirmed_at, told.seconds) == ("waiting", None, None)
    assert told.waiting.startswith(f"gateway/b had revision {revision - 1} and not yet {revision}")
    assert (told.sampled_at, told.decided_at) == (scraped, scraped)
    controller.run(5)
    assert controller.phase() == "rolled_back", "a gateway that does not answer holds nothing back"
    assert watch.view().state == "waiting"

    told = watch.look(a=(revision + 1, first), b=(revision + 1, last))
    assert (told.state, told.gateways, told.waiting) == ("confirmed", 2, "")
    assert told.confirmed_at == last
    assert told.seconds == 2.25
    assert counted("sample") == since_sample + 1


def test_without_harm_the_time_is_that_since_the_decision(controller: Stand, watch: Watch) -> None:
    since_sample, since_decision = counted("sample"), counted("decision")
    controller.clock.advance(1)
    controller.ask("abort")
    controller.look()
    asked = controller.clock.now()
    # This gateway never had the candidate, so its split is older than the decision.
    told = watch.look(a=(controller.route()["revision"], asked - timedelta(hours=1)))
    assert (told.state, told.sampled_at, told.seconds) == ("confirmed", None, 0.0)
    assert (counted("sample"), counted("decision")) == (since_sample, since_decision + 1)


def test_gateways_that_never_say_so_are_named_in_the_end(controller: Stand, watch: Watch) -> None:
    harmed(controller)
    before = given_up()
    revision = controller.route()["revision"]
    assert watch.look().waiting == "Prometheus knows no gateway that serves the route"
    old = watch.look(a=(revision, None)).waiting
    assert old == f"gateway/a does not show {SPLIT_SINCE}; is it older than this controller?"
    controller.prometheus.fault = (503, "{}")
    assert "answered HTTP 503" in watch.look().waiting
    controller.prometheus.fault = None
    controller.clock.advance(GIVE_UP.total_seconds())
    told = watch.look(a=(revision - 1, datetime(2026, 1, 1, tzinfo=UTC)))
    assert (told.state, told.confirmed_at, told.seconds) == ("unconfirmed", None, None)
    assert told.waiting.startswith("gateway/a had revision")
    assert given_up() == before + 1


def test_a_candidate_without_weight_leaves_nothing_to_be_confirmed(controller: Stand) -> None:
    controller.begin()
    controller.run(3)
    controller.ask("abort")
    controller.run(5)
    assert controller.phase() == "rolled_back"
    with reading(controller.engine) as session:
        assert session.get(Withdrawal, "intents-r1") is None
