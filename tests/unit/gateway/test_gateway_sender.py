"""The thread that publishes: bounded, never in the way, and honest about what it gave up."""

from collections.abc import Callable, Sequence

import pytest

from services.gateway.sender import EventSender, Parcel
from shared.events import Event, FeedbackReceived
from shared.messaging.broker import BrokerUnavailableError, Outgoing
from tests.support.routes import fact
from tests.support.wait import eventually


class Sink:
    """Takes records, or refuses those whose key is in `refuse`."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refuse: set[str] = set()
        self.opened = self.closed = 0

    def open(self) -> "Sink":
        self.opened += 1
        return self

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        results: list[Exception | None] = []
        for record in records:
            refused = record.key.decode() in self.refuse
            results.append(BrokerUnavailableError("no") if refused else None)
            if not refused:
                self.taken.append(record.key.decode())
        return results

    def close(self) -> None:
        self.closed += 1


class Gone:
    """A broker that is not there."""

    def __init__(self) -> None:
        self.tried = 0

    def open(self) -> Sink:
        self.tried += 1
        raise BrokerUnavailableError("nobody listens")


def event(name: str) -> Event[FeedbackReceived]:
    item = FeedbackReceived(request_id=name, route="r", model_version=None, score=1, seen=True)
    return fact(item)  # type: ignore[return-value]


class Desk:
    """Offers events and notes what became of them."""

    def __init__(self, open_sink: Callable[[], Sink], max_bytes: int = 1_000_000) -> None:
        self.now = 0.0
        self.outcomes: dict[str, str] = {}
        self.sender = EventSender("test", open_sink, max_bytes=max_bytes, clock=lambda: self.now)

    def offer(self, name: str, size: int = 0, make: Callable[[], Event[FeedbackReceived] | None] | None = None) -> bool:
        def done(error: Exception | None) -> None:
            self.outcomes[name] = "taken" if error is None else type(error).__name__

        return self.sender.offer(Parcel(make or (lambda: event(name)), size, done))


def test_what_the_broker_took_and_what_it_refused_are_told_apart() -> None:
    sink = Sink()
    sink.refuse.add("b")
    desk = Desk(sink.open)
    for name in "abc":
        desk.offer(name)
    assert (sink.opened, desk.outcomes) == (0, {}), "nothing is sent by whoever offers"
    desk.sender.send_waiting()
    assert desk.outcomes == {"a": "taken", "b": "GaveUpError", "c": "taken"}
    assert (sink.taken, sink.closed) == (["a", "c"], 1), "a producer that failed is not used again"


def test_without_a_broker_everything_is_given_up_at_once_and_it_is_asked_again_later() -> None:
    gone = Gone()
    desk = Desk(gone.open)
    for name in "ab":
        desk.offer(name)
        desk.sender.send_waiting()
    assert (desk.outcomes, gone.tried) == ({"a": "GaveUpError", "b": "GaveUpError"}, 1)
    desk.offer("not made", make=lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    desk.sender.send_waiting()
    assert desk.outcomes["not made"] == "GaveUpError", "nothing is made for a broker that is away"
    desk.now += 1.0
    desk.offer("c")
    desk.sender.send_waiting()
    assert gone.tried == 2


def test_no_more_waits_than_the_limit_and_there_is_room_again_afterwards() -> None:
    desk = Desk(Sink().open, max_bytes=10_000)
    assert [desk.offer(name, size=2_000) for name in "abcd"] == [True, True, True, False]
    assert not desk.offer("huge", size=10_000)
    desk.sender.send_waiting()
    assert sorted(desk.outcomes) == ["a", "b", "c"], "what was not taken in is not reported either"
    assert desk.offer("e", size=2_000)


def test_an_event_that_cannot_be_made_or_is_none_stops_no_other() -> None:
    def broken() -> Event[FeedbackReceived] | None:
        raise ZeroDivisionError

    sink = Sink()
    desk = Desk(sink.open)
    desk.offer("broken", make=broken)
    desk.offer("none", make=lambda: None)
    desk.offer("good")
    desk.sender.send_waiting()
    assert (desk.outcomes, sink.taken) == ({"broken": "ZeroDivisionError", "good": "taken"}, ["good"])


def test_whoever_cannot_bear_the_outcome_stops_no_other() -> None:
    def unbearable(_: Exception | None) -> None:
        raise ZeroDivisionError

    sink = Sink()
    desk = Desk(sink.open)
    desk.sender.offer(Parcel(lambda: event("x"), 0, unbearable))
    desk.offer("y")
    desk.sender.send_waiting()
    assert desk.outcomes == {"y": "taken"}


@pytest.mark.parametrize("count", [0, 1, 200])
def test_the_thread_publishes_what_waits_before_it_ends(count: int) -> None:
    sink = Sink()
    desk = Desk(sink.open)
    desk.sender.start()
    for number in range(count):
        desk.offer(str(number))
    desk.sender.finish()
    desk.sender.join(10)
    assert sink.taken == [str(number) for number in range(count)]
    assert sink.closed == (1 if count else 0)
    assert not desk.offer("late")


def test_the_thread_wakes_for_each_event() -> None:
    sink = Sink()
    desk = Desk(sink.open)
    desk.sender.start()
    for name in "abc":
        desk.offer(name)
        eventually(lambda name=name: desk.outcomes.get(name) == "taken")  # type: ignore[misc]
    desk.sender.finish()
    desk.sender.join(10)
