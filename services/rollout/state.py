"""What a rollout knows, on which the reducer in decide.py works. What it sees is in observation.py.

`RolloutState` is stored as JSON in the rollout's row. It holds the last counter values and the evidence too, so that a
controller that dies and one that takes over see the same numbers.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.rollout.analysis import Counts, Evidence, SampleRatio
from services.rollout.analysis.asymptotic import LookSums
from services.rollout.analysis.bounded import BettingMean
from services.rollout.analysis.clumps import Clumps
from services.rollout.hook_state import HookState
from shared.events import Phase

TERMINAL: frozenset[Phase] = frozenset({"promoted", "rolled_back", "superseded"})
ACTIVE: frozenset[Phase] = frozenset({"staging", "progressing", "paused", "promoting", "aborting"})
FULL_WEIGHT = 10_000

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
        means: of an objective that is a mean, what is known of it by role; the counts are then its sum and number.
        sums: exact sums by role, which the counts round.
        clumps: how the requests cling to units, over all steps; of what gateways count units by.
        looks: of what they do not, how the counts vary from look to look.
        verdict: whom the last look favoured; an objective that is met favours the candidate, one that is missed stable.
    """

    # Of rollouts of an earlier release, what is kept elsewhere now is left out.
    model_config = ConfigDict(extra="ignore")

    stable: Counts = Counts()
    candidate: Counts = Counts()
    counters: dict[str, dict[str, float]] = {}
    means: dict[str, BettingMean] = {}
    sums: dict[str, float] = {}
    clumps: Clumps = Clumps()
    looks: LookSums = LookSums()
    verdict: AbVerdict = "no_data"

    def begin_step(self) -> "ObjectiveState":
        """The same with nothing counted yet."""
        return ObjectiveState(counters=self.counters, clumps=self.clumps)


class LatencyState(_Stored):
    """What is known of how long answers take, since the candidate's first weight.

    Attributes:
        counters: the last raw value of each bucket, by target and series.
        buckets: answers by version's role and upper bound, as cumulative as in the histogram.
    """

    counters: dict[str, dict[str, float]] = {}
    buckets: dict[str, dict[str, int]] = {}


class UnitState(_Stored):
    """What is remembered of the gateways' counts of units.

    Attributes:
        counters: the last raw value of each counter series, by target and series; none before the first were seen.
        unnamed: requests that named no unit since then, by the version that served them.
        met: the last counts of units by what they met, by version and cell.
        split: the test of the split.
        weight: the candidate's weight at the last look.
        since: the look at which that was first so; units that came before it has settled say nothing of the split.
    """

    # Of rollouts of an earlier release, what nobody asks for any more is left out.
    model_config = ConfigDict(extra="ignore")

    counters: dict[str, dict[str, float]] = {}
    unnamed: dict[str, int] = {}
    met: dict[str, dict[str, int]] = {}
    split: SampleRatio = SampleRatio()
    weight: int = 0
    since: datetime | None = None

    def begin_split(self) -> "UnitState":
        """The same with the split tested from now on: a person has seen to it."""
        return self.model_copy(update={"split": SampleRatio()})


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
        latencies: for display only.
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
    latencies: LatencyState = LatencyState()
    hooks: dict[str, HookState] = {}

    @property
    def seconds_exposed(self) -> float | None:
        """How long the candidate had traffic; None while that has not ended or never began."""
        if self.exposed_from is None or self.exposed_until is None:
            return None
        return (self.exposed_until - self.exposed_from).total_seconds()
