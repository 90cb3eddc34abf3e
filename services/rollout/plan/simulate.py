"""One made-up rollout: the reducer of decide.py on counters that grow by chance, with a clock that is only a number.

Looks are as far apart as the policy says at first, and then further, so that a rollout of hours takes hundreds of looks
and not thousands. Evidence that may be looked at after every scrape may also be looked at less often; decisions come
later by at most `_STRIDE` of the time that has passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from services.rollout.counts import Reading
from services.rollout.decide import new_state, step
from services.rollout.guardrails import counted_in
from services.rollout.observation import Loading, Observation
from services.rollout.plan.contract import Traffic
from services.rollout.state import FULL_WEIGHT, RolloutState
from services.rollout.unit_counts import JUDGED, SERVED, UNNAMED, UnitReadings, cell, cell_of
from services.rollout.wanted import Record
from shared.gateway_metrics import pair_event
from shared.pipeline import Guardrail, RolloutPolicy

_STRIDE = 0.05
_MOST_LOOKS = 10_000
_START = datetime(2026, 1, 1, tzinfo=UTC)
_STABLE, _CANDIDATE, _CONTROL = "stable@1", "candidate@2", "stable@1-control"
_LOADED = Loading(loaded=1)
_ENDS = {"promote": "promoted", "rollback": "rolled_back"}


@dataclass(frozen=True)
class Run:
    """How one simulated rollout went.

    Attributes:
        end: promoted or rolled_back, or undecided where the horizon came first.
        fired: the guardrail that rolled it back, or the rule that did.
        seconds: from the first weight (or copy) to the decision.
        requests: answered by the candidate until then, at each look, ``[(seconds, requests)]``.
        weights: when each weight began, ``[(seconds, share)]``.
        looks: how many it took.
    """

    end: str
    fired: str
    seconds: float
    requests: list[tuple[float, int]]
    weights: list[tuple[float, float]]
    looks: int


@dataclass
class _World:
    """Counters of stable, candidate and control by guardrail: bad events and all."""

    random: np.random.Generator
    guardrails: Sequence[Guardrail]
    per_second: float
    stable: Mapping[str, float]
    candidate: Mapping[str, float]
    control: bool = False
    bad: dict[tuple[str, str], int] = field(default_factory=dict)
    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=lambda: {_STABLE: 0, _CANDIDATE: 0, _CONTROL: 0})
    exposed: int = 0

    def pass_time(self, seconds: float, weight: int, control: int, shadow: int) -> None:
        """Requests arrive, some are copied, and some of them are bad."""
        arrived = int(self.random.poisson(self.per_second * seconds))
        canary = int(self.random.binomial(arrived, weight / FULL_WEIGHT))
        controls = int(self.random.binomial(arrived - canary, control / (FULL_WEIGHT - weight))) if control else 0
        self.exposed += canary
        copies = int(self.random.binomial(arrived, shadow / FULL_WEIGHT))
        for version, count, rates in (
            (_STABLE, arrived - canary - controls, self.stable), (_CANDIDATE, canary + copies, self.candidate),
            (_CONTROL, (controls + copies) * self.control, self.stable),
        ):
            self.total[version] += count
            for name, rate in rates.items():
                bad = int(self.random.binomial(count, rate))
                self.bad[name, version] = self.bad.get((name, version), 0) + bad
                if version == _CANDIDATE and copies:
                    self._compare(name, copies, bad)

    def _compare(self, name: str, copies: int, bad: int) -> None:
        """The other answer to each copied request fails as often as stable does, whatever the copy did."""
        rate = self.stable[name]
        for version, of, chance in ((_CANDIDATE, bad, 1 - rate), (_STABLE, copies - bad, rate)):
            alone = int(self.random.binomial(of, chance))
            self.pairs[name, version] = self.pairs.get((name, version), 0) + alone

    def observation(self) -> Observation:
        return Observation(
            stable=_STABLE, candidate=_CANDIDATE, control=_CONTROL if self.control else None, loading=_LOADED,
            readings={name: tuple(self._readings(name)) for name in self.stable}, units=self._units(),
        )

    def _units(self) -> UnitReadings:
        """Each request is a unit of its own."""
        # They are told of as if they had names, and none as new: the split is as it is meant, and is not tested.
        none = (Reading(target="gateway", version=version, cell=UNNAMED, bad=0, total=1, value=0)
                for version in self.total)
        seen = {(version, name): total for version, total in self.total.items() for name in (SERVED, JUDGED)}
        return UnitReadings(tuple(none), seen | {
            (version, name): counts.get((guardrail.called, version), 0)
            for guardrail in self.guardrails for version in self.total
            for name, counts in (
                (cell_of(guardrail, 1), self.bad), (cell(pair_event(guardrail.metric), "", 1), self.pairs)
            )
        })

    def _readings(self, name: str) -> list[Reading]:
        readings = []
        for version, total in self.total.items():
            bad = self.bad.get((name, version), 0)
            readings += [
                Reading(target="gateway", version=version, cell="bad", value=bad, bad=1, total=1),
                Reading(target="gateway", version=version, cell="good", value=total - bad, bad=0, total=1),
            ]
        return readings


def stable_rates(policy: RolloutPolicy, traffic: Traffic) -> dict[str, float]:
    """Stable's bad rate by guardrail, and for what decides an A/B test."""
    names = [counted.called for counted in counted_in(policy)]
    return {name: traffic.bad_rates.get(name, traffic.bad_rate) for name in names}


def simulate(
    policy: RolloutPolicy, traffic: Traffic, candidate: Mapping[str, float], horizon: timedelta,
    random: np.random.Generator,
) -> Run:
    """One rollout, from its first weight until a decision or the horizon.

    Args:
        candidate: its bad rate by guardrail.
        horizon: takes the place of the policy's deadline.
    """
    # The interval only bounds how much time one look may count; these looks are further apart. Nobody waits
    # for people or webhooks.
    alone = {"approval": False}
    rules = policy.model_copy(update={
        "deadline": horizon, "interval": horizon, "steps": [each.model_copy(update=alone) for each in policy.steps],
        "shadow": policy.shadow and policy.shadow.model_copy(update=alone), "webhooks": [],
    })
    per_second, stable = traffic.requests_per_minute / 60, stable_rates(policy, traffic)
    world = _World(random, policy.guardrails, per_second, stable, candidate, policy.control)
    state, now = _begun(rules, world), _START
    began, requests, weights = now, [(0.0, 0)], [(0.0, state.weight / FULL_WEIGHT)]
    # An interval of nothing would be no end of looks.
    shortest = max(policy.interval.total_seconds(), horizon.total_seconds() / _MOST_LOOKS)
    while True:
        elapsed = (now - began).total_seconds()
        wait = min(max(shortest, _STRIDE * elapsed), horizon.total_seconds() - elapsed)
        world.pass_time(wait, state.weight, state.control, state.shadow)
        now += timedelta(seconds=wait)
        elapsed += wait
        before, (state, effects) = state, step(state, world.observation(), now, rules)
        requests.append((elapsed, world.exposed))
        decided = next((effect for effect in effects if isinstance(effect, Record) and effect.action in _ENDS), None)
        end = _ENDS[decided.action] if decided else ""
        if not end and elapsed >= horizon.total_seconds():
            end = "undecided"
        if end:
            fired = state.fired or (decided.rule if decided else "")
            return Run(end, fired, elapsed, requests, weights, len(requests) - 1)
        if state.weight != before.weight:
            weights.append((elapsed, state.weight / FULL_WEIGHT))


def _begun(policy: RolloutPolicy, world: _World) -> RolloutState:
    """The state with the first weight: the route is free and every replica has loaded the candidate."""
    state = new_state(_START, policy)
    while state.step == 0:
        state, _ = step(state, world.observation(), _START, policy)
    return state
