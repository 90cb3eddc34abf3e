"""The values that the reducer in decide.py works on: what a rollout knows, what it sees, and what it wants done.

`RolloutState` is stored as JSON in the rollout's row. It holds the last counter values and the evidence too, so that a
controller that dies and one that takes over see the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.rollout.analysis import Counts, Evidence, SampleRatio
from services.rollout.analysis.bounded import BettingMean
from services.rollout.counts import Reading
from services.rollout.guardrails import NoData
from services.rollout.hook_state import Ask, HookAnswer, HookState
from services.rollout.unit_counts import UnitReadings
from shared.events import Phase

TERMINAL: frozenset[Phase] = frozenset({"promoted", "rolled_back", "superseded"})
ACTIVE: frozenset[Phase] = frozenset({"staging", "progressing", "paused", "promoting", "aborting"})
FULL_WEIGHT = 10_000

Verb = Literal["pause", "resume", "promote", "abort"]
Verdict = Literal["harmful", "safe", "undecided", "no_data"]
AbVerdict = Literal["candidate", "stable", "undecided", "no_data"]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardrailState(_Stored):
    """One guardrail of one rollout.

    Attributes:
        evidence: over the whole rollout.
        in_step: the candidate's counts since the current step began.
        counters: the last raw value of each counter series, by target and series.
        verdict: of the last look.
    """

    evidence: Evidence = Evidence()
    in_step: Counts = Counts()
    counters: dict[str, dict[str, float]] = {}
    verdict: Verdict = "no_data"

    def begin_step(self) -> "GuardrailState":
        """The same with nothing counted in the step yet."""
        return self.model_copy(update={"in_step": Counts()})

    def begin_traffic(self) -> "GuardrailState":
        """The same without evidence: what copies showed is no evidence about traffic."""
        return GuardrailState(counters=self.counters)


class ObjectiveState(_Stored):
    """What decides an A/B test, or whether an objective is met.

    Attributes:
        stable: counts since it began.
        candidate: the same of the candidate.
        counters: the last raw value of each counter series, by target and series.
        buckets: answers by latency since the test began, by version's role and upper bound; for display only.
        bucket_counters: the last raw values of those.
        means: of an objective that is a mean, what is known of it by role; the counts are then its sum and number.
        sums: exact sums by role, which the counts round.
        verdict: whom the last look favoured; an objective that is met favours the candidate, one that is missed stable.
    """

    stable: Counts = Counts()
    candidate: Counts = Counts()
    counters: dict[str, dict[str, float]] = {}
    buckets: dict[str, dict[str, int]] = {}
    bucket_counters: dict[str, dict[str, float]] = {}
    means: dict[str, BettingMean] = {}
    sums: dict[str, float] = {}
    verdict: AbVerdict = "no_data"

    def begin_step(self) -> "ObjectiveState":
        """The same with nothing counted yet."""
        return ObjectiveState(counters=self.counters, bucket_counters=self.bucket_counters)


class UnitState(_Stored):
    """What is remembered of the gateways' counts of units.

    Attributes:
        counters: the last raw value of each counter series, by target and series; none before the first were seen.
        restarts: of gateways, which forget whom they have counted.
        split: the test of the split.
        weight: the candidate's weight at the last look.
        since: the look at which that was first so; units that came before it has settled say nothing of the split.
    """

    counters: dict[str, dict[str, float]] = {}
    restarts: int = 0
    split: SampleRatio = SampleRatio()
    weight: int = 0
    since: datetime | None = None


class RolloutState(_Stored):
    """Everything that a rollout knows about itself.

    Attributes:
        step: the current step, from 1; 0 while the candidate has had no traffic.
        weight: the candidate's share in basis points.
        control: the control's share, the same as the candidate's or 0.
        shadow: the share of requests that are copied to it (and to the control), in basis points.
        reason: why it is where it is, for people.
        since: when the phase began.
        started_at: when it took the route; None while another rollout holds it.
        deadline_at: for loading in staging; for evidence in progressing.
        paused_in: the phase that a pause interrupted.
        ending: where aborting leads.
        step_seconds: time in this step during which data arrived.
        looked_at: the last look.
        exposed_from: the candidate's first weight.
        exposed_until: when its last weight was taken away.
        users: distinct units that got the candidate, the last known number; None where never known.
        awaits_approval: the last step whose proof waited for a person.
        approved: the last step that a person let pass.
        direct: it is promoted as soon as it is loaded: a version inside the rollback window needs no new analysis.
        fired: the guardrail that ended it.
        blind: per guardrail (and A/B test), why the last look had no data for it.
        ab_test: None where the rollout is none.
        objectives: by name.
        units: what is known of the gateways' units.
        hooks: by webhook's name, what it was asked and what it answered.
    """

    phase: Phase = "staging"
    step: int = 0
    weight: int = 0
    control: int = 0
    shadow: int = 0
    reason: str = ""
    since: datetime
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    paused_in: Literal["staging", "progressing"] | None = None
    ending: Literal["rolled_back", "superseded"] | None = None
    step_seconds: float = 0.0
    looked_at: datetime | None = None
    exposed_from: datetime | None = None
    exposed_until: datetime | None = None
    users: int | None = None
    awaits_approval: int = 0
    approved: int = 0
    direct: bool = False
    fired: str = ""
    blind: dict[str, str] = {}
    guardrails: dict[str, GuardrailState] = {}
    ab_test: ObjectiveState | None = None
    objectives: dict[str, ObjectiveState] = {}
    units: UnitState = UnitState()
    hooks: dict[str, HookState] = {}

    @property
    def seconds_exposed(self) -> float | None:
        """How long the candidate had traffic; None while that has not ended or never began."""
        if self.exposed_from is None or self.exposed_until is None:
            return None
        return (self.exposed_until - self.exposed_from).total_seconds()


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
        latencies: of an A/B test, the buckets of the gateways' latency; what they lack is not shown, and holds nothing.
        successor: a newer version of the same route that waits for it, or that already has it.
        users: distinct units of the candidate; None where not known.
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
    users: int | None = None
    units: UnitReadings | NoData | None = None
    answers: Mapping[str, HookAnswer] = field(default_factory=dict)
    control: str | None = None

    @property
    def baseline(self) -> str:
        """Whom the candidate is compared with, as metrics call it."""
        return self.control or self.stable


@dataclass(frozen=True)
class TakeRoute:
    """Become the route's only rollout: candidate at weight 0, and a control where there is to be one; a new salt."""

    control: bool = False


@dataclass(frozen=True)
class Shift:
    """Give the candidate and the control these shares of the traffic (basis points), stable the rest; and copies of a
    share of the requests to both.
    """

    weight: int
    shadow: int = 0
    control: int = 0


@dataclass(frozen=True)
class MakeStable:
    """The candidate becomes stable, the old stable version leaves, and the route is free."""


@dataclass(frozen=True)
class LeaveRoute:
    """The candidate leaves and the route is free."""


@dataclass(frozen=True)
class Announce:
    """Say in an event that the rollout is now where its state says."""


@dataclass(frozen=True)
class Record:
    """Store a decision with the evidence of the state: what was done, by which rule, why, and by whom."""

    action: str
    rule: str
    reason: str
    by: str = ""


@dataclass(frozen=True)
class Answer:
    """Close a command: done, or refused with a reason."""

    command: int
    refused: str = ""


Effect = TakeRoute | Shift | MakeStable | LeaveRoute | Announce | Record | Answer | Ask
