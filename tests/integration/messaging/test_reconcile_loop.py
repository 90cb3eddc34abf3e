"""Rows are worked on under leases: again and again, by one owner at a time, whatever a look does."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.clock import SystemClock, VirtualClock
from shared.db import reading, transaction
from shared.errors import TemporaryError
from shared.leases import Lease, LeasedRow, apply, apply_all, claim, interrupt
from shared.reconcile import ReconcileLoop
from tests.support.metrics import risen, shown
from tests.support.wait import eventually

INTERVAL, TTL = 5.0, 30.0


class Base(SQLModel, registry=registry()):
    """Tables of this test."""


class Job(LeasedRow, Base, table=True):
    """Something to look at."""

    note: str = Field(default="")


@pytest.fixture(autouse=True)
def _tables(engine: Engine) -> None:
    Base.metadata.create_all(engine)


def add(engine: Engine, *ids: str) -> None:
    with transaction(engine) as session:
        session.add_all([Job(id=job, state="open") for job in ids])


def get(engine: Engine, job: str = "a") -> Job:
    with reading(engine) as session:
        return session.get_one(Job, job)


def make_loop(
    engine: Engine, clock: VirtualClock | SystemClock, reconcile: Callable[[Job, Lease], None], *,
    owner: str = "me", ttl: float = TTL,
) -> ReconcileLoop[Job]:
    return ReconcileLoop(
        name="jobs", engine=engine, model=Job, states=["open"], owner=owner, clock=clock, reconcile=reconcile, ttl=ttl,
        interval=INTERVAL,
    )


def drain(loop: ReconcileLoop[Job]) -> None:
    while loop.step():
        pass


def test_looks_at_each_row_that_is_due_and_again_after_the_interval(engine: Engine, clock: VirtualClock) -> None:
    seen: list[tuple[str, int]] = []
    loop = make_loop(engine, clock, lambda row, lease: seen.append((row.id, lease.epoch)))
    add(engine, "a", "b")
    drain(loop)
    assert seen == [("a", 1), ("b", 1)]
    clock.advance(INTERVAL - 1)
    drain(loop)
    assert len(seen) == 2
    clock.advance(1)
    drain(loop)
    assert seen[2:] == [("a", 2), ("b", 2)]
    row = get(engine)
    assert (row.lease_owner, row.lease_until) == (None, None)


def test_a_row_that_reaches_a_final_state_is_left_alone(engine: Engine, clock: VirtualClock) -> None:
    looks = 0

    def finish(row: Job, lease: Lease) -> None:
        nonlocal looks
        looks += 1
        with transaction(engine) as session:
            assert apply(session, Job, lease, state="done", note="finished")

    add(engine, "a")
    loop = make_loop(engine, clock, finish)
    drain(loop)
    clock.advance(1000)
    drain(loop)
    assert looks == 1
    assert (get(engine).state, get(engine).note) == ("done", "finished")


def test_a_row_that_the_session_has_read_shows_what_was_applied_to_it(engine: Engine, clock: VirtualClock) -> None:
    add(engine, "a")
    with transaction(engine) as session:
        row = session.get_one(Job, "a")
        row.note = "not written yet"
        assert apply(session, Job, Lease("a", "me", 0), state="done")
        assert not apply(session, Job, Lease("a", "me", 7), state="lost")
    assert (row.state, row.note, row.generation) == ("done", "not written yet", 1)
    assert (get(engine).state, get(engine).note) == ("done", "not written yet")


def test_what_looks_put_off_is_done_after_the_last_of_a_batch_and_may_fail(engine: Engine, clock: VirtualClock) -> None:
    done: list[str] = []

    def look(row: Job, lease: Lease) -> bool:
        done.append(row.id)
        return True

    def finish() -> None:
        done.append("finished")
        if len(done) == 3:
            raise ValueError("no room")

    add(engine, "a", "b", "c")
    loop = ReconcileLoop(
        name="jobs", engine=engine, model=Job, states=["open"], owner="me", clock=clock, reconcile=look, ttl=TTL,
        interval=INTERVAL, batch=2, finish=finish,
    )
    drain(loop)
    assert done == ["a", "b", "finished", "c", "finished"]
    clock.advance(TTL + 1)
    drain(loop)
    assert done[5:] == ["a", "b", "finished", "c", "finished"], "their leases have ended"


def test_many_rows_are_written_at_once_or_not_at_all(engine: Engine, clock: VirtualClock) -> None:
    add(engine, "a", "b")
    values = {"state": "done"}
    with transaction(engine) as session:
        assert not apply_all(session, Job, [(Lease("b", "me", 0), values), (Lease("a", "me", 7), values)])
        session.rollback()
    assert (get(engine, "a").state, get(engine, "b").state) == ("open", "open")
    with transaction(engine) as session:
        assert apply_all(session, Job, [(Lease("b", "me", 0), values), (Lease("a", "me", 0), values)])
    assert (get(engine, "a").state, get(engine, "b").state) == ("done", "done")


def test_a_look_may_choose_the_time_of_the_next(engine: Engine, clock: VirtualClock) -> None:
    at_once = [True, True, False]

    def move(row: Job, lease: Lease) -> None:
        later = timedelta(0) if at_once.pop(0) else timedelta(hours=1)
        with transaction(engine) as session:
            assert apply(session, Job, lease, note=row.note + "x", next_look_at=clock.now() + later)
        clock.advance(1)

    add(engine, "a")
    drain(make_loop(engine, clock, move))
    assert get(engine).note == "xxx"


def test_a_failing_look_backs_off_and_does_not_stop_the_others(engine: Engine, clock: VirtualClock) -> None:
    seen: list[str] = []

    def look(row: Job, lease: Lease) -> None:
        seen.append(row.id)
        if row.id == "a":
            raise RuntimeError("a bug")

    add(engine, "a", "b")
    loop = make_loop(engine, clock, look)
    for expected in (["a", "b"], ["b"], ["a", "b"], ["b"], ["b"], ["b"], ["a", "b"]):
        seen.clear()
        drain(loop)
        assert sorted(seen) == expected
        clock.advance(INTERVAL)


def test_a_look_may_ask_for_a_longer_pause(engine: Engine, clock: VirtualClock) -> None:
    def look(row: Job, lease: Lease) -> None:
        raise TemporaryError("the cluster is full", delay=timedelta(minutes=10))

    add(engine, "a")
    drain(make_loop(engine, clock, look))
    assert get(engine).next_look_at == clock.now() + timedelta(minutes=10)


def test_a_change_from_outside_is_not_undone_by_a_look_at_the_older_row(engine: Engine, clock: VirtualClock) -> None:
    applied: list[bool] = []

    def look(row: Job, lease: Lease) -> None:
        if not applied:
            with transaction(engine) as session:
                assert interrupt(session, Job, "a", note="paused by a person")
        with transaction(engine) as session:
            applied.append(apply(session, Job, lease, note=f"{row.note}, seen"))

    add(engine, "a")
    drain(make_loop(engine, clock, look))
    assert applied == [False, True]
    assert get(engine).note == "paused by a person, seen"


def test_a_stale_owner_neither_changes_nor_frees_the_row(engine: Engine, clock: VirtualClock) -> None:
    """A long pause of the process in the middle of a look, while another replica takes over."""
    results: dict[str, bool] = {}

    def second(row: Job, lease: Lease) -> None:
        with transaction(engine) as session:
            results["second"] = apply(session, Job, lease, note="by the second")

    def first(row: Job, lease: Lease) -> None:
        clock.advance(TTL + 1)
        with transaction(engine) as session:
            other = claim(
                session, Job, states=["open"], owner="second", now=clock.now(), ttl=timedelta(seconds=TTL)
            )
        assert other is not None
        second(*other)
        with transaction(engine) as session:
            results["first"] = apply(session, Job, lease, note="by the first")

    add(engine, "a")
    assert make_loop(engine, clock, first, owner="first").step()
    assert results == {"first": False, "second": True}
    row = get(engine)
    assert (row.note, row.lease_owner, row.lease_epoch) == ("by the second", "second", 2)


def test_the_heartbeat_keeps_a_long_look_from_being_taken_over(engine: Engine) -> None:
    ttl = 4.5
    finish, started = threading.Event(), threading.Event()
    others: list[str] = []

    def renewed_after(until: datetime | None) -> None:
        eventually(lambda: get(engine).lease_until != until)

    def other_look(row: Job, lease: Lease) -> None:
        others.append(row.id)

    def long_look(row: Job, lease: Lease) -> None:
        started.set()
        assert finish.wait(60)

    add(engine, "a")
    slow = threading.Thread(target=make_loop(engine, SystemClock(), long_look, owner="slow", ttl=ttl).step)
    other = make_loop(engine, SystemClock(), other_look, owner="other", ttl=ttl)
    slow.start()
    try:
        assert started.wait(60)
        for _ in range(2):
            renewed_after(get(engine).lease_until)
            assert not other.step()
    finally:
        finish.set()
        slow.join()
    assert others == []
    assert get(engine).lease_owner is None


def test_two_replicas_never_work_on_one_row_at_once(engine: Engine) -> None:
    working: set[str] = set()
    looks: list[str] = []
    guard = threading.Lock()

    def look(row: Job, lease: Lease) -> None:
        with guard:
            assert row.id not in working
            working.add(row.id)
        with transaction(engine) as session:
            assert apply(session, Job, lease, state="done")
        with guard:
            working.remove(row.id)
            looks.append(row.id)

    jobs = [f"job-{number}" for number in range(12)]
    add(engine, *jobs)
    loops = [make_loop(engine, SystemClock(), look, owner=owner) for owner in ("one", "two")]
    threads = [threading.Thread(target=drain, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(looks) == sorted(jobs)


def test_rows_that_wait_and_looks_are_shown(engine: Engine) -> None:
    stop = threading.Event()

    def look(row: Job, lease: Lease) -> None:
        stop.set()
        raise ValueError("no luck")

    loop = make_loop(engine, SystemClock(), look)
    failed = shown("tuneloop_reconciled_total", loop="jobs", outcome="failed")
    looks = shown("tuneloop_reconcile_seconds_count", loop="jobs")
    add(engine, "a", "b")
    loop.run(stop)
    assert risen("tuneloop_reconciled_total", failed, loop="jobs", outcome="failed") == 1
    assert risen("tuneloop_reconcile_seconds_count", looks, loop="jobs") == 1
    assert shown("tuneloop_reconciled_total", loop="jobs", outcome="ok") is not None, "it exists before it is needed"
    assert shown("tuneloop_reconcile_rows", loop="jobs", state="open") == 2
    with transaction(engine) as session:
        session.get_one(Job, "a").state = "done"
    assert shown("tuneloop_reconcile_rows", loop="jobs", state="open") == 1
