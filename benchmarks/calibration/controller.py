"""What tuneloop's controller concludes from the counters, by its own code.

- `whole` is one rollout through the reducer itself, look by look: `step(state, observation, now, policy)`.
- `many` does the same for thousands: the controller's own reading of counters (`increments`, `counted`), and the
  functions of its analysis on whole histories, which is what they take. Statistics are not written twice; only their
  order is, and `agree` compares the two on every scenario: one other look of one rollout is an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.calibration.scenarios import LOOKS, Floats, Traffic
from benchmarks.calibration.traffic import Bools, Counters, Ints
from services.rollout.analysis import Counts, UnitLook
from services.rollout.analysis.clumps import clumping
from services.rollout.analysis.evidence import (
    harm_interval_steps,
    harm_steps,
    harm_unit_steps,
    log_harm,
    log_safe,
    log_unit_harm,
    safe_steps,
)
from services.rollout.counts import Reading, increments
from services.rollout.decide import new_state, step
from services.rollout.evidence import harm_threshold, safe_threshold
from services.rollout.guardrails import bounds_of
from services.rollout.observation import Command, Loading, Observation
from services.rollout.samples import NoData
from services.rollout.state import FULL_WEIGHT, UnitState
from services.rollout.unit_counts import (
    JUDGED,
    NEW,
    SERVED,
    UNNAMED,
    UnitReadings,
    can_count,
    cell_of,
    counted,
)
from shared.gateway_metrics import UNIT_TIMES
from shared.pipeline import Guardrail, RolloutPolicy

STABLE, CANDIDATE = "stable@1", "candidate@2"
_VERSIONS = (STABLE, CANDIDATE)
_START = datetime(2026, 1, 1, tzinfo=UTC)
_LOADED = Loading(loaded=1)
_GAP = NoData("stale", "there are no fresh samples")
# What harm is proved by decides the guardrail: users, requests, or the share of the bad events of each look.
BY_USER: Mapping[str, str] = {"metric": "errors"}
BY_REQUEST: Mapping[str, str] = {"metric": "errors", "countBy": "request"}
BY_LOOK: Mapping[str, str] = {"metric": "promql", "name": "errors", "bad": 'app_errors_total{model="$version"}',
                              "total": 'app_requests_total{model="$version"}'}


@dataclass(frozen=True)
class Decisions:
    """Looks from 1 at which each rollout was rolled back, or first was safe; 0: never; ``[runs]``.

    A rollout that is safe is promoted by a policy without a least time, so it counts for nothing after that look, and
    one that was rolled back cannot be safe any more.
    """

    rolled_back: Ints
    safe: Ints


def policy_for(traffic: Traffic, guardrail: Mapping[str, str] = BY_USER) -> RolloutPolicy:
    """The default policy, but for the steps: those of the traffic, each as long as it takes for somebody to end it."""
    weights = sorted({round(float(weight) * 100, 6) for weight in traffic.weights})
    forever = timedelta(minutes=10 * LOOKS)
    return RolloutPolicy.model_validate({
        "steps": [{"weight": weight, "minDuration": forever} for weight in weights], "deadline": forever,
        "guardrails": [guardrail], "interval": timedelta(minutes=1),
    })


class Rollout:
    """What the controller sees of one rollout, at each look.

    Args:
        run: which of the rollouts in `counters`.
    """

    def __init__(self, counters: Counters, run: int, guardrail: Guardrail) -> None:
        self.looks: list[int] = np.flatnonzero(counters.data[run]).tolist()
        self._with_data = frozenset(self.looks)
        self._guardrail = guardrail
        self._unit_cells = [cell_of(guardrail, times) for times in UNIT_TIMES]
        self._requests = counters.requests[run].tolist()
        self._met, self._unnamed = counters.units[run].tolist(), counters.unnamed[run].tolist()
        self._new, self._served = counters.new[run].tolist(), counters.served[run].tolist()

    def at(self, look: int, command: Command | None = None) -> Observation:
        """What is there to see at a look."""
        readings: tuple[Reading, ...] | NoData = _GAP
        units: UnitReadings | NoData = _GAP
        if look in self._with_data:
            readings = self._readings(self._requests[look])
            units = self._unit_readings(self._unnamed[look], self._met[look], self._new[look], self._served[look])
        return self._observation(readings, units, command)

    def before(self) -> Observation:
        """Before the first request: all counters are there and at zero."""
        units = self._unit_readings([0, 0], [[0] * len(self._unit_cells)] * len(_VERSIONS), [0, 0], [0, 0])
        return self._observation(self._readings([(0, 0), (0, 0)]), units, None)

    def _observation(
        self, readings: tuple[Reading, ...] | NoData, units: UnitReadings | NoData, command: Command | None
    ) -> Observation:
        return Observation(STABLE, CANDIDATE, {self._guardrail.called: readings}, loading=_LOADED, units=units,
                           command=command)

    def _readings(self, requests: Sequence[Sequence[int]]) -> tuple[Reading, ...]:
        return tuple(
            Reading(target="gateway", version=version, cell=name, value=value, bad=bad, total=1)
            for version, (errors, total) in zip(_VERSIONS, requests, strict=False)
            for name, value, bad in (("error", errors, 1), ("ok", total - errors, 0))
        )

    def _unit_readings(
        self, unnamed: Sequence[int], met: Sequence[Sequence[int]], new: Sequence[int], served: Sequence[int]
    ) -> UnitReadings:
        # Where requests stand for judgements, whoever asked was judged.
        cells = [*self._unit_cells, NEW, SERVED, JUDGED]
        values = [(*times, first, known, known) for times, first, known in zip(met, new, served, strict=True)]
        return UnitReadings(
            tuple(
                Reading(target="gateway", version=version, cell=UNNAMED, value=value, bad=0, total=1)
                for version, value in zip(_VERSIONS, unnamed, strict=True)
            ),
            {(version, name): units for version, mine in zip(_VERSIONS, values, strict=True)
             for name, units in zip(cells, mine, strict=True)},
        )


# --- One rollout, by the reducer ------------------------------------------------------------------


def whole(counters: Counters, run: int, traffic: Traffic, policy: RolloutPolicy) -> tuple[int, int]:
    """The looks of rollback and of safety, of one rollout. Where the traffic's weight rises, a person promotes it."""
    [guardrail] = policy.guardrails
    state, now, safe = new_state(_START, policy), _START, 0
    seen = Rollout(counters, run, guardrail)
    while state.step == 0:
        state, _ = step(state, seen.before(), now, policy)
    for look in range(LOOKS):
        rises = look + 1 < LOOKS and traffic.weights[look + 1] != traffic.weights[look]
        command = Command(look + 1, "promote", "the traffic says so") if rises else None
        now += policy.interval
        state, _ = step(state, seen.at(look, command), now, policy)
        if state.phase == "aborting":
            return look + 1, safe
        if not safe and state.guardrails[guardrail.called].verdict == "safe":
            safe = look + 1
    return 0, safe


# --- Many, by the same functions on arrays --------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """What the controller makes of the counters, as increments; leading dimensions ``[runs, LOOKS]``.

    Attributes:
        stable, candidate: ``[..., 2]`` bad and all requests.
        units: ``[..., 2, times]`` units by version that met their so-manieth bad event.
        served: ``[..., 2]`` distinct units that each version has served.
        data: looks with data.
    """

    stable: Floats
    candidate: Floats
    units: Floats
    served: Floats
    data: Bools


def many(read: Read, traffic: Traffic, policy: RolloutPolicy) -> Decisions:
    """The looks of rollback and of safety of all runs."""
    logs = evidence(read, traffic, policy)
    harmful = read.data & ((logs.harm >= np.log(harm_threshold(policy))) | logs.over_limit)
    safe = read.data & (logs.safe >= np.log(safe_threshold(policy))) & ~harmful
    rolled_back, first_safe = first(harmful), first(safe)
    return Decisions(rolled_back, np.where((rolled_back > 0) & (first_safe > rolled_back), 0, first_safe))


@dataclass(frozen=True)
class Evidence:
    """Logs of the e-values at each look, and where the hard limit acts; ``[runs, LOOKS]``."""

    harm: Floats
    safe: Floats
    over_limit: Bools


def evidence(read: Read, traffic: Traffic, policy: RolloutPolicy) -> Evidence:
    """The controller's evidence at each look."""
    [guardrail] = policy.guardrails
    share = np.round(traffic.weights * FULL_WEIGHT) / FULL_WEIGHT
    stable, candidate = np.cumsum(read.stable, axis=1), np.cumsum(read.candidate, axis=1)
    past = stable - read.stable
    ratio, rate = (np.cumsum(steps, axis=1)
                   for steps in safe_steps(read.stable, read.candidate, past, bounds_of(guardrail)))
    odds = np.broadcast_to(share / (1.0 - share), read.data.shape)
    discount: Floats = np.ones(read.data.shape)
    if guardrail.count_by == "request":
        harm = log_harm(np.cumsum(harm_steps(read.stable, read.candidate, past), axis=1))
    elif not can_count(guardrail):
        steps = harm_interval_steps(read.stable[..., 0], read.candidate[..., 0], odds)
        harm = log_harm(np.cumsum(steps, axis=1))
    else:
        units = harm_unit_steps(read.units[:, :, 0], read.units[:, :, 1], odds)
        harm = log_unit_harm(np.cumsum(units, axis=1))
        bad_units = np.cumsum(read.units[..., 0], axis=1)
        served = np.maximum.accumulate(np.maximum(read.served, bad_units), axis=1)
        discount = clumping(stable, candidate, bad_units, served)
    return Evidence(harm, log_safe(ratio, rate, discount), _over_limit(candidate, traffic, guardrail))


def _over_limit(candidate: Floats, traffic: Traffic, guardrail: Guardrail) -> Bools:
    """The candidate's counts begin anew with each weight."""
    if guardrail.hard_limit is None:
        return np.zeros(candidate.shape[:2], dtype=np.bool_)
    begins = np.flatnonzero(np.r_[True, np.diff(traffic.weights) != 0])
    step_of = np.searchsorted(begins, np.arange(LOOKS), side="right") - 1
    before = np.concatenate([np.zeros_like(candidate[:, :1]), candidate], axis=1)[:, begins[step_of]]
    bad, total = np.moveaxis(candidate - before, -1, 0)
    over: Bools = (total >= guardrail.hard_limit_requests) & (bad >= guardrail.hard_limit * np.maximum(total, 1))
    return over


def read_all(counters: Counters, policy: RolloutPolicy) -> Read:
    """What the controller makes of the counters of all runs.

    Counters that only grow, and are there at each look, are subtracted here; all others by the controller's own code.
    """
    if counters.data.all() and (np.diff(counters.requests, axis=1) >= 0).all():
        requests, units = (np.diff(of, axis=1, prepend=0).astype(float) for of in (counters.requests, counters.units))
        served = (counters.served + counters.unnamed).astype(float)
        return Read(requests[:, :, 0], requests[:, :, 1], units, served, counters.data)
    return _read_by_look(counters, policy)


def _read_by_look(counters: Counters, policy: RolloutPolicy) -> Read:
    [guardrail] = policy.guardrails
    runs = len(counters.data)
    requests, units = np.zeros((runs, LOOKS, 2, 2)), np.zeros((runs, LOOKS, 2, len(UNIT_TIMES)))
    served = np.zeros((runs, LOOKS, 2))
    for run in range(runs):
        for look, counts, met in _looks(Rollout(counters, run, guardrail), guardrail):
            requests[run, look] = [(counts[version].bad, counts[version].total) for version in _VERSIONS]
            units[run, look] = met.stable, met.candidate
            served[run, look:] = met.stable_seen, met.candidate_seen
    return Read(requests[:, :, 0], requests[:, :, 1], units, served, counters.data)


def _looks(rollout: Rollout, guardrail: Guardrail) -> Iterator[tuple[int, dict[str, Counts], UnitLook]]:
    """Looks with data, as the controller reads them: increments of requests, and what the units met."""
    last, _ = increments({}, _counters(rollout.before(), guardrail))
    units, _ = counted(UnitState(), _unit_counters(rollout.before()))
    for look in rollout.looks:
        seen = rollout.at(look)
        last, counts = increments(last, _counters(seen, guardrail))
        units, grown = counted(units, _unit_counters(seen))
        yield look, counts, grown.look(guardrail, STABLE, CANDIDATE)


def _counters(seen: Observation, guardrail: Guardrail) -> tuple[Reading, ...]:
    readings = seen.readings[guardrail.called]
    assert not isinstance(readings, NoData)
    return readings


def _unit_counters(seen: Observation) -> UnitReadings:
    assert isinstance(seen.units, UnitReadings)
    return seen.units


def first(fired: Bools) -> Ints:
    """The first look, from 1, at which it fired; 0: never; ``[..., LOOKS]`` to ``[...]``."""
    found: Ints = np.where(fired.any(axis=-1), fired.argmax(axis=-1) + 1, 0)
    return found


class DisagreementError(Exception):
    """The two ways of running the controller came to different decisions, so that none can be trusted."""


def agree(
    counters: Counters, decisions: Decisions, traffic: Traffic, policy: RolloutPolicy, runs: Sequence[int]
) -> None:
    """Run some rollouts through the whole reducer, too.

    Raises:
        DisagreementError: naming the rollout.
    """
    for run in runs:
        expected = int(decisions.rolled_back[run]), int(decisions.safe[run])
        found = whole(counters, run, traffic, policy)
        if found != expected:
            raise DisagreementError(
                f"traffic {traffic.name}, rollout {run}: the reducer rolled back at look {found[0]} and was safe at "
                f"look {found[1]} (0: never), the same functions on arrays say {expected[0]} and {expected[1]}"
            )
