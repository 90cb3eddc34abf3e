"""Whoever tells the controller of units says everything, in order, until Kafka has it; with bounded memory."""

from collections.abc import Sequence
from typing import cast

from prometheus_client import CollectorRegistry

from services.gateway.unit_teller import Met, UnitTeller
from shared.events import UnitsMet, decode
from shared.messaging.broker import Outgoing
from tests.unit.gateway.test_gateway_sender import Desk, Sink

FAILED = Met("r@1", "errors", None, 1)
SLOW = Met("base", "latency", 2.5, 4)


class Hearing(Sink):
    """Notes what it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[UnitsMet] = []
        self.times: list[float] = []

    def open(self) -> "Hearing":
        super().open()
        return self

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        results = super().send(records)
        for record, result in zip(records, results, strict=True):
            if result is None:
                event = decode(record.value, dict(record.headers), record.key)
                self.heard.append(cast(UnitsMet, event.data))
                self.times.append(event.time.timestamp())
        return results


class Told:
    """A teller whose sender is moved by hand."""

    def __init__(self, limit: int = 100) -> None:
        self.sink = Hearing()
        self.desk = Desk(self.sink.open)
        self.registry = CollectorRegistry()
        self.teller = UnitTeller(self.desk.sender, self.registry, limit, now=lambda: self.desk.now)

    def tell(self, *units: int, met: Met = FAILED, salt: str = "salt") -> None:
        for unit in units:
            self.teller.tell("r", salt, met, unit)

    def send(self, seconds: float = 0.0) -> None:
        self.desk.now += seconds
        self.desk.sender.send_waiting()

    def count(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"tuneloop_gateway_units_{name}_total")

    @property
    def units(self) -> list[list[str]]:
        return [met.units for event in self.sink.heard for met in event.met]


def test_all_that_came_goes_in_one_event_by_what_was_met() -> None:
    told = Told()
    told.tell(1, 2)
    told.tell(255, met=SLOW)
    told.send()
    [event] = told.sink.heard
    assert (event.route, event.salt, event.subject()) == ("r", "salt", "r")
    assert [(met.model_version, met.event, met.seconds, met.times) for met in event.met] == [tuple(FAILED), tuple(SLOW)]
    assert told.units == [["0000000000000001", "0000000000000002"], ["00000000000000ff"]]
    assert (told.count("told"), told.count("untold")) == (3, 0)
    told.send()
    assert len(told.sink.heard) == 1


def test_what_kafka_did_not_take_is_said_again_with_what_came_since() -> None:
    told = Told()
    told.sink.refuse.add("r")
    told.tell(1)
    told.send()
    told.tell(2)
    told.send(seconds=2)
    told.sink.refuse.clear()
    told.send()  # too soon after the failure
    assert told.units == []
    told.send(seconds=2)
    assert told.units == [["0000000000000001", "0000000000000002"]]
    assert told.count("told") == 2
    assert told.sink.times == [0.0], "when the first was met, and not when Kafka came back"


def test_many_are_told_of_in_several_events() -> None:
    told = Told(limit=5000)
    told.tell(*range(2500))
    for _ in range(3):
        told.send()
    assert [len(units) for units in told.units] == [1000, 1000, 500]
    assert len({unit for units in told.units for unit in units}) == 2500


def test_memory_is_bounded_and_what_is_lost_is_counted() -> None:
    told = Told(limit=3)
    told.tell(*range(5))
    told.send()
    assert (told.count("told"), told.count("untold")) == (3, 2)


def test_what_waits_of_an_old_split_is_forgotten() -> None:
    told = Told()
    told.sink.refuse.add("r")
    told.tell(1)
    told.send()
    told.tell(2, salt="new")
    told.sink.refuse.clear()
    told.send(seconds=2)
    told.send()
    assert told.sink.heard[-1].salt == "new"
    assert told.units[-1] == ["0000000000000002"]
