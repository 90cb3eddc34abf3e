"""Looks that change nothing but what is known are stored together, each under its own lease."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from services.rollout.decide import new_state
from services.rollout.models import Decision, Rollout
from services.rollout.state import ACTIVE
from services.rollout.store import Conclusion, Store
from services.rollout.wanted import Announce, Record
from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.leases import claim_many, interrupt
from shared.pipeline import RolloutPolicy
from tests.support.delivery import START

pytestmark = pytest.mark.integration

NAMES = ("a", "b", "c")
POLICY = RolloutPolicy()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


def concluded(engine: Engine, clock: VirtualClock) -> list[Conclusion]:
    """A look at each of three new rollouts, which holds."""
    now, state = clock.now(), new_state(clock.now(), POLICY)
    with transaction(engine) as session:
        session.add_all([
            Rollout(id=name, state="staging", pipeline=name, route=name, model_version=f"{name}@1", number=1, model={},
                    base_model_digest="", policy={}, data=state.model_dump(mode="json"), correlation_id=name,
                    causation_id=name, created_at=now, updated_at=now)
            for name in NAMES
        ])
    with transaction(engine) as session:
        claimed = claim_many(session, Rollout, states=sorted(ACTIVE), owner="one", now=now, ttl=timedelta(seconds=30),
                             limit=10)
    after = state.model_copy(update={"reason": "looked at"})
    return [Conclusion(row, lease, POLICY, state, after, [Record("hold", "loading", "looked at")], now)
            for row, lease in claimed]


def stored(engine: Engine) -> dict[str, tuple[str, str | None, int]]:
    """By rollout: its reason, who has its lease, and the decisions about it."""
    with reading(engine) as session:
        decided = session.exec(select(Decision.rollout_id)).all()
        rows = session.exec(select(Rollout).order_by(col(Rollout.id))).all()
        return {row.id: (row.data["reason"], row.lease_owner, decided.count(row.id)) for row in rows}


def test_quiet_looks_are_stored_and_their_leases_end(engine: Engine, clock: VirtualClock) -> None:
    Store(engine, clock, ()).together(concluded(engine, clock))
    assert stored(engine) == dict.fromkeys(NAMES, ("looked at", None, 1))


def test_one_whose_lease_is_lost_is_dropped_and_the_others_are_stored(engine: Engine, clock: VirtualClock) -> None:
    found = concluded(engine, clock)
    with transaction(engine) as session:
        interrupt(session, Rollout, "b")
    Store(engine, clock, ()).together(found)
    assert stored(engine) == {
        "a": ("looked at", None, 1), "b": ("waiting for the route", None, 0), "c": ("looked at", None, 1),
    }


def test_one_that_cannot_be_stored_leaves_the_others_alone(engine: Engine, clock: VirtualClock) -> None:
    found = concluded(engine, clock)
    broken = found[1].policy.model_copy(update={"interval": None})
    found[1] = Conclusion(found[1].row, found[1].lease, broken, found[1].before,
                          found[1].after.model_copy(update={"phase": "progressing"}), found[1].wanted, found[1].now)
    Store(engine, clock, ()).together(found)
    assert stored(engine) == {
        "a": ("looked at", None, 1), "b": ("waiting for the route", "one", 0), "c": ("looked at", None, 1),
    }


def test_a_look_that_somebody_hears_of_is_not_quiet(engine: Engine, clock: VirtualClock) -> None:
    [found, *_] = concluded(engine, clock)
    told = Conclusion(found.row, found.lease, found.policy, found.before, found.after, [*found.wanted, Announce()],
                      found.now)
    assert (found.quiet, told.quiet) == (True, False)
