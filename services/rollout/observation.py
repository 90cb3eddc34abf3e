"""What a rollout sees at one look, as values; observe.py and facts.py look, and the reducer in decide.py concludes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.rollout.counts import Reading
from services.rollout.hook_state import HookAnswer
from services.rollout.samples import NoData
from services.rollout.unit_counts import UnitReadings

Verb = Literal["pause", "resume", "promote", "abort"]


@dataclass(frozen=True)
class Command:
    """What a person asked for.

    Attributes:
        by: who says to have asked; empty where nobody said.
        full: of a promotion: all the way, not to the next step only.
    """

    id: int
    verb: Verb
    reason: str
    by: str = ""
    full: bool = False

    def said(self, done: str) -> str:
        """The reason of what was done for it: ``paused by ada: lunch``."""
        return f"{done} by {self.by or 'a person'}: {self.reason or 'no reason given'}"


@dataclass(frozen=True)
class Loading:
    """How far the candidate is on the replicas of its base model.

    Attributes:
        waiting: names of the replicas that have not confirmed it.
        loaded: how many have.
        failure: why a replica can never serve it; empty if none said so.
    """

    waiting: tuple[str, ...] = ()
    loaded: int = 0
    failure: str = ""

    @property
    def complete(self) -> bool:
        """Every known replica confirmed, and there is one."""
        return self.loaded > 0 and not self.waiting

    @property
    def awaited(self) -> str:
        """Who is waited for, in words."""
        return ", ".join(self.waiting) or "a replica to say that it is ready"


@dataclass(frozen=True)
class Observation:
    """One look at the world.

    Attributes:
        stable: the stable model version as metrics call it (``base`` for the bare base model).
        candidate: the candidate's.
        control: the control's; None where there is none.
        readings: per guardrail's name, its counters or why there are none; nothing for one that was not read.
        route_free: nobody else holds the route.
        misfit: why the candidate can never be served on this route; empty if it can.
        latencies: the buckets of the gateways' latency, where this look reads them; nothing hangs on them.
        successor: a newer version of the same route that waits for it, or that already has it.
        units: the counters of units, or why there are none; None where they were not read.
        command: the oldest command that is not answered yet.
        answers: by webhook's name, what it answered to the newest question.
    """

    stable: str
    candidate: str
    readings: Mapping[str, tuple[Reading, ...] | NoData] = field(default_factory=dict)
    latencies: tuple[Reading, ...] = ()
    loading: Loading = Loading()
    route_free: bool = True
    misfit: str = ""
    successor: str | None = None
    command: Command | None = None
    units: UnitReadings | NoData | None = None
    answers: Mapping[str, HookAnswer] = field(default_factory=dict)
    control: str | None = None

    @property
    def baseline(self) -> str:
        """Whom the candidate is compared with, as metrics call it."""
        return self.control or self.stable
