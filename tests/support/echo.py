"""The smallest service: it notes each event that it handles, and says that it did."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, col, select

from shared.clock import Clock
from shared.db import reading, transaction
from shared.events import DatasetPublished, Event, Topic, TrainingFailed, decode, encode
from shared.messaging import HandlerContext, Handlers, Outbox, emit
from shared.messaging.broker import Outgoing, Record

TOPIC_IN = Topic.DATASETS.value
TOPIC_OUT = Topic.RUNS.value


class EchoBase(SQLModel, registry=registry()):
    """Tables of the echo service."""


class Effect(EchoBase, table=True):
    """One handled event."""

    seq: int | None = Field(default=None, primary_key=True)
    key: str
    number: int


def published(key: str, number: int) -> DatasetPublished:
    """The event that it handles: fact number `number` about `key`."""
    return DatasetPublished(dataset_id=key, pipeline="demo", uri="s3://bucket/rows", name=str(number))


def echo_handlers(consumer: str = "echo") -> Handlers:
    """Its handlers."""
    handlers = Handlers(consumer)

    @handlers.on(DatasetPublished)
    def note(ctx: HandlerContext, event: Event[DatasetPublished]) -> None:
        number = int(event.data.name)
        ctx.session.add(Effect(key=event.subject, number=number))
        ctx.emit(said(event.subject, number))

    return handlers


def said(key: str, number: int) -> TrainingFailed:
    """What it says after handling."""
    return TrainingFailed(run_id=key, pipeline="demo", pipeline_version=number, attempt=1, reason="echo")


def tell(engine: Engine, clock: Clock, facts: Iterable[tuple[str, int]]) -> None:
    """Write facts into the outbox, each in a transaction of its own."""
    for key, number in facts:
        with transaction(engine) as session:
            emit(session, published(key, number), source="test", clock=clock, correlation_id=f"loop-{key}")


def outgoing(event: Event[Any]) -> Outgoing:
    """The event as a record to write to the broker, around any outbox."""
    message = encode(event)
    headers = tuple(message.headers.items())
    return Outgoing(event.data.TOPIC.value, event.subject.encode(), message.value or b"", headers)


def effects(engine: Engine) -> dict[str, list[int]]:
    """What was handled: numbers by key, in the order of handling."""
    with reading(engine) as session:
        rows = session.exec(select(Effect).order_by(col(Effect.seq))).all()
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        found[row.key].append(row.number)
    return dict(found)


def heard(records: Iterable[Record]) -> dict[str, list[int]]:
    """What it said, as a consumer with an inbox hears it: numbers by key, repetitions dropped."""
    seen: set[str] = set()
    found: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        event = decode(record.value, dict(record.headers), record.key)
        if event.id not in seen:
            seen.add(event.id)
            found[event.subject].append(event.data.pipeline_version)
    return dict(found)


def unpublished(engine: Engine) -> int:
    """How many outbox rows the relay has not marked."""
    with reading(engine) as session:
        return len(session.exec(select(Outbox.seq).where(col(Outbox.published_at).is_(None))).all())
