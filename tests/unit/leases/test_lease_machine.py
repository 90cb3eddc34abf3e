"""Two owners, clocks that move, pauses of any length: a stale owner never changes a row."""

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.leases import Lease, LeasedRow, apply, claim, interrupt, release, renew
from tests.support.db import sqlite_engine

TTL = timedelta(seconds=30)


class Base(SQLModel, registry=registry()):
    """Tables of this test."""


class Job(LeasedRow, Base, table=True):
    """A row to fight over; `written_by` is what an owner concluded."""

    written_by: str = Field(default="")


@dataclass
class Model:
    """What must be true of the row, without a database."""

    epoch: int = 0
    owner: str | None = None
    until: float = 0.0
    written_by: str = ""
    generation: int = 0


class LeaseMachine(RuleBasedStateMachine):
    """Leases are kept by owners for as long as they like, also long after they lost them."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.database = sqlite_engine(Base.metadata)
        self.engine = self.database.__enter__()
        self.clock = VirtualClock()
        self.start = self.clock.now()
        self.model = Model()
        with transaction(self.engine) as session:
            session.add(Job(id="job", state="open"))

    def teardown(self) -> None:
        self.database.__exit__(None, None, None)

    @property
    def seconds(self) -> float:
        return (self.clock.now() - self.start).total_seconds()

    @rule(seconds=st.sampled_from([1, 10, 29, 30, 31, 100]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(target=leases, owner=st.sampled_from(["a", "b"]))
    def claims(self, owner: str) -> object:
        with transaction(self.engine) as session:
            claimed = claim(session, Job, states=["open"], owner=owner, now=self.clock.now(), ttl=TTL)
        held = self.model.owner is not None and self.model.until > self.seconds
        assert (claimed is None) == held
        if claimed is None:
            return multiple()
        row, lease = claimed
        self.model.epoch += 1
        self.model.owner, self.model.until = owner, self.seconds + TTL.total_seconds()
        assert lease == Lease("job", owner, self.model.epoch)
        assert row.written_by == self.model.written_by
        return lease

    @rule(lease=leases)
    def renews(self, lease: Lease) -> None:
        with transaction(self.engine) as session:
            kept = renew(session, Job, lease, now=self.clock.now(), ttl=TTL)
        assert kept == self.holds(lease)
        if kept:
            self.model.until = self.seconds + TTL.total_seconds()

    @rule(lease=leases, note=st.text("xyz", min_size=1, max_size=3))
    def applies(self, lease: Lease, note: str) -> None:
        written = f"{lease.owner}{lease.epoch}{note}"
        with transaction(self.engine) as session:
            done = apply(session, Job, lease, written_by=written)
        assert done == (lease.epoch == self.model.epoch)
        if done:
            self.model.written_by = written
            self.model.generation += 1

    @rule(lease=consumes(leases))
    def releases(self, lease: Lease) -> None:
        with transaction(self.engine) as session:
            done = release(session, Job, lease)
        assert done == self.holds(lease)
        if done:
            self.model.owner = None

    @rule()
    def is_interrupted(self) -> None:
        with transaction(self.engine) as session:
            assert interrupt(session, Job, "job", written_by="operator")
        self.model.epoch += 1
        self.model.owner, self.model.written_by = None, "operator"
        self.model.generation += 1

    def holds(self, lease: Lease) -> bool:
        return lease.epoch == self.model.epoch and self.model.owner == lease.owner

    @invariant()
    def row_is_as_modelled(self) -> None:
        with reading(self.engine) as session:
            row = session.get_one(Job, "job")
        assert (row.lease_epoch, row.lease_owner, row.written_by, row.generation) == (
            self.model.epoch, self.model.owner, self.model.written_by, self.model.generation,
        )


LeaseMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLeases = LeaseMachine.TestCase
