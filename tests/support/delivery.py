"""Events into a service's inbox and through its handlers, as the delivery loops do it, without a broker."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import select

from shared.clock import Clock, VirtualClock
from shared.db import reading, transaction
from shared.events import Event, Payload, encode
from shared.messaging import Handlers, Inbox, Outbox, ProcessLoop
from shared.messaging.broker import Record
from shared.messaging.inbox import store

START = datetime(2026, 1, 1, tzinfo=UTC)


def fact(payload: Payload, *, sequence: int = 1, time: datetime = START, correlation_id: str = "loop-1") -> Event[Any]:
    """An event about a payload, from the service that says such things."""
    return Event(data=payload, source=payload.PRODUCER, time=time, correlation_id=correlation_id, sequence=sequence)


def receive(engine: Engine, handlers: Handlers, events: Iterable[Event[Any]]) -> None:
    """Put events into the inbox, as the consume loop does."""
    pairs = []
    for offset, event in enumerate(events):
        message = encode(event)
        record = Record(topic=event.data.TOPIC.value, partition=0, offset=offset, key=event.subject.encode(),
                        value=message.value, headers=tuple(message.headers.items()))
        pairs.append((record, event))
    with transaction(engine) as session:
        store(session, handlers.consumer, pairs, START)


def process_all(engine: Engine, handlers: Handlers, clock: Clock) -> None:
    """Handle everything that is due."""
    loop = ProcessLoop(engine=engine, handlers=handlers, clock=clock)
    while loop.step():
        pass


def deliver(engine: Engine, handlers: Handlers, *events: Event[Any], clock: Clock | None = None) -> None:
    """Receive and handle."""
    receive(engine, handlers, events)
    process_all(engine, handlers, clock or VirtualClock(START))


def unhandled(engine: Engine) -> dict[str, str]:
    """Type to last error of the events that are pending or dead."""
    with reading(engine) as session:
        rows = session.exec(select(Inbox).where(Inbox.status != "done")).all()
        return {row.type: f"{row.status}: {row.last_error}" for row in rows}


def said(engine: Engine) -> list[tuple[str, dict[str, Any]]]:
    """Type and payload of everything in the outbox, in order; dead letters left out."""
    with reading(engine) as session:
        rows = session.exec(select(Outbox).where(Outbox.sequence > 0).order_by(Outbox.seq)).all()  # type: ignore[arg-type]
        return [(row.type, json.loads(row.payload)) for row in rows]
