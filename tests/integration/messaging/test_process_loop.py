"""Handlers: in order per key, all or nothing, failures that block their key only."""

from datetime import timedelta

import pytest
import structlog
from sqlalchemy import Engine, insert
from sqlmodel import col, select

from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.errors import ConflictError, InvalidInputError, NotFoundError, PermanentError, TemporaryError
from shared.events import DatasetPublished, Event
from shared.messaging import HandlerContext, Handlers, Inbox, Outbox, ProcessLoop, list_inbox, requeue
from shared.messaging.broker import Record
from shared.messaging.headers import load_headers
from shared.messaging.inbox import store
from shared.messaging.retry import MAX_ATTEMPTS
from shared.telemetry import span
from tests.support.echo import Effect, echo_handlers, effects, outgoing, published, said


def receive(
    engine: Engine, clock: VirtualClock, *facts: tuple[str, int], traceparent: str | None = None
) -> list[str]:
    """Put events into the inbox as the consume loop does; their ids."""
    received = []
    for offset, (key, number) in enumerate(facts):
        event = Event(
            data=published(key, number), source="test", time=clock.now(), correlation_id=f"loop-{key}",
            traceparent=traceparent,
        )
        out = outgoing(event)
        received.append((Record(out.topic, 0, offset, out.key, out.value, out.headers), event))
    with transaction(engine) as session:
        store(session, "echo", received, clock.now())
    return [event.id for _, event in received]


def drain(loop: ProcessLoop) -> None:
    while loop.step():
        pass


class Trouble:
    """Handlers that fail for chosen keys, after they have written."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.handlers = Handlers("echo")
        self.handlers.on(DatasetPublished)(self.handle)

    def handle(self, ctx: HandlerContext, event: Event[DatasetPublished]) -> None:
        ctx.session.add(Effect(key=event.subject, number=int(event.data.name)))
        ctx.emit(said(event.subject, int(event.data.name)))
        if event.subject in self.errors:
            raise self.errors[event.subject]


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def loop(engine: Engine, clock: VirtualClock, trouble: Trouble) -> ProcessLoop:
    return ProcessLoop(engine=engine, handlers=trouble.handlers, clock=clock)


def outbox(engine: Engine) -> list[Outbox]:
    with reading(engine) as session:
        return list(session.exec(select(Outbox).order_by(col(Outbox.seq))).all())


def test_effects_and_facts_come_in_order_per_key(engine: Engine, clock: VirtualClock, loop: ProcessLoop) -> None:
    first, *_ = receive(engine, clock, ("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3))
    drain(loop)
    assert effects(engine) == {"a": [1, 2, 3], "b": [1, 2]}
    rows = outbox(engine)
    assert [(row.key, row.sequence) for row in rows if row.key == "a"] == [("a", 1), ("a", 2), ("a", 3)]
    headers = dict(load_headers(rows[0].headers))
    assert headers["ce_correlationid"] == b"loop-a"
    assert headers["ce_causationid"] == first.encode()
    assert headers["ce_source"] == b"/tuneloop/trainer"


def test_an_event_received_twice_is_handled_once(engine: Engine, clock: VirtualClock, loop: ProcessLoop) -> None:
    event = Event(data=published("a", 1), source="test", time=clock.now(), correlation_id="loop")
    out = outgoing(event)
    record = Record(out.topic, 0, 0, out.key, out.value, out.headers)
    with transaction(engine) as session:
        assert store(session, "echo", [(record, event), (record, event)], clock.now()) == {event.id}
    with transaction(engine) as session:
        assert store(session, "echo", [(record, event)], clock.now()) == set()
    drain(loop)
    assert effects(engine) == {"a": [1]}


def test_a_temporary_error_blocks_its_key_only_and_leaves_nothing(
    engine: Engine, clock: VirtualClock, loop: ProcessLoop, trouble: Trouble
) -> None:
    receive(engine, clock, ("a", 1), ("a", 2), ("b", 1))
    trouble.errors["a"] = TemporaryError("the pipeline is not known yet")
    drain(loop)
    assert effects(engine) == {"b": [1]}
    assert [row.key for row in outbox(engine)] == ["b"]
    with reading(engine) as session:
        (first, second) = list_inbox(session, "pending")
    assert (first.attempts, first.last_error) == (1, "TemporaryError: the pipeline is not known yet")
    assert first.next_attempt_at is not None
    assert first.next_attempt_at > clock.now()
    assert second.attempts == 0

    trouble.errors.clear()
    clock.advance(1)
    drain(loop)
    assert effects(engine) == {"b": [1], "a": [1, 2]}


def test_a_permanent_error_sets_the_event_aside_with_a_dead_letter(
    engine: Engine, clock: VirtualClock, loop: ProcessLoop, trouble: Trouble
) -> None:
    receive(engine, clock, ("a", 1))
    trouble.errors["a"] = PermanentError("this dataset has no rows")
    drain(loop)
    trouble.errors.clear()
    receive(engine, clock, ("a", 2))
    drain(loop)
    assert effects(engine) == {"a": [2]}
    with reading(engine) as session:
        (dead,) = list_inbox(session, "dead")
        payload = session.get_one(Inbox, dead.seq).payload
    assert dead.last_error == "PermanentError: this dataset has no rows"
    letter = next(row for row in outbox(engine) if row.type == "dead-letter")
    assert (letter.topic, letter.key, letter.sequence, letter.payload) == ("tuneloop.datasets.dlq", "a", 0, payload)
    headers = dict(load_headers(letter.headers))
    assert headers["ce_type"] == b"dataset.published.v1"
    assert headers["dlq-consumer"] == b"echo"
    assert (headers["dlq-topic"], headers["dlq-partition"], headers["dlq-offset"]) == (b"tuneloop.datasets", b"0", b"0")
    assert headers["dlq-error"] == b"PermanentError: this dataset has no rows"
    assert headers["dlq-inbox-seq"] == str(dead.seq).encode()


def test_a_bug_is_tried_again_and_given_up_in_the_end(
    engine: Engine, clock: VirtualClock, loop: ProcessLoop, trouble: Trouble
) -> None:
    receive(engine, clock, ("a", 1))
    trouble.errors["a"] = KeyError("oops")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert loop.step(), f"attempt {attempt} was not due"
        assert not loop.step()
        clock.advance(61)
    with reading(engine) as session:
        (dead,) = list_inbox(session, "dead")
    assert dead.attempts == MAX_ATTEMPTS


def test_an_error_of_the_database_inside_a_handler_is_undone_to_the_savepoint(
    engine: Engine, clock: VirtualClock
) -> None:
    handlers = Handlers("echo")

    @handlers.on(DatasetPublished)
    def write_twice(ctx: HandlerContext, event: Event[DatasetPublished]) -> None:
        for _ in range(2):
            ctx.session.exec(insert(Effect).values(seq=7, key=event.subject, number=1))

    receive(engine, clock, ("a", 1))
    drain(ProcessLoop(engine=engine, handlers=handlers, clock=clock))
    assert effects(engine) == {}
    with reading(engine) as session:
        (row,) = list_inbox(session, "pending")
    assert "IntegrityError" in (row.last_error or "")


def test_requeue_runs_a_dead_event_before_later_ones_of_its_key(
    engine: Engine, clock: VirtualClock, loop: ProcessLoop, trouble: Trouble
) -> None:
    receive(engine, clock, ("a", 1))
    trouble.errors["a"] = PermanentError("no")
    drain(loop)
    trouble.errors.clear()
    receive(engine, clock, ("a", 2))
    with transaction(engine) as session:
        requeue(session, list_inbox(session, "dead")[0].seq)
    drain(loop)
    assert effects(engine) == {"a": [1, 2]}


def test_requeue_names_what_is_wrong(engine: Engine, clock: VirtualClock, loop: ProcessLoop) -> None:
    receive(engine, clock, ("a", 1))
    drain(loop)
    with transaction(engine) as session:
        done = list_inbox(session, "done")[0]
        with pytest.raises(ConflictError, match=r"dataset\.published\.v1, key 'a'\) is done"):
            requeue(session, done.seq)
        with pytest.raises(NotFoundError, match="no event 4711 in the inbox"):
            requeue(session, 4711)
        with pytest.raises(InvalidInputError, match="use one of pending, done, dead"):
            list_inbox(session, "lost")


def test_requeue_of_a_waiting_event_tries_at_once(
    engine: Engine, clock: VirtualClock, loop: ProcessLoop, trouble: Trouble
) -> None:
    receive(engine, clock, ("a", 1))
    trouble.errors["a"] = TemporaryError("in a day", delay=timedelta(days=1))
    drain(loop)
    trouble.errors.clear()
    with transaction(engine) as session:
        requeue(session, list_inbox(session, "pending")[0].seq)
    drain(loop)
    assert effects(engine) == {"a": [1]}


def test_an_event_whose_handler_is_gone_is_set_aside(engine: Engine, clock: VirtualClock) -> None:
    receive(engine, clock, ("a", 1))
    drain(ProcessLoop(engine=engine, handlers=Handlers("echo"), clock=clock))
    with reading(engine) as session:
        (dead,) = list_inbox(session, "dead")
    assert dead.last_error == "PermanentError: echo has no handler for dataset.published.v1 any more"


def test_the_trace_and_the_correlation_id_of_the_event_go_on(engine: Engine, clock: VirtualClock) -> None:
    handlers = Handlers("echo")
    bound: dict[str, object] = {}

    @handlers.on(DatasetPublished)
    def look(ctx: HandlerContext, event: Event[DatasetPublished]) -> None:
        bound.update(structlog.contextvars.get_contextvars())
        ctx.emit(said("a", 1))

    trace = "0af7651916cd43dd8448eb211c80319c"
    receive(engine, clock, ("a", 1), traceparent=f"00-{trace}-b7ad6b7169203331-01")
    with span("unrelated"):
        drain(ProcessLoop(engine=engine, handlers=handlers, clock=clock))
    assert bound["correlation_id"] == "loop-a"
    (row,) = outbox(engine)
    assert trace in dict(load_headers(row.headers))["ce_traceparent"].decode()
    assert "correlation_id" not in structlog.contextvars.get_contextvars()


def test_two_replicas_share_the_work_in_order(engine: Engine, clock: VirtualClock) -> None:
    facts = [(key, number) for number in range(1, 11) for key in "abc"]
    receive(engine, clock, *facts)
    loops = [ProcessLoop(engine=engine, handlers=echo_handlers(), clock=clock) for _ in range(2)]
    while loops[0].step() or loops[1].step():
        loops.reverse()
    assert effects(engine) == {key: list(range(1, 11)) for key in "abc"}
