"""A/B tests on the same kinds of traffic, split in halves, by the controller's own interval and verdict. Seeded."""

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.calibration.controller import BY_LOOK, BY_USER, Read, policy_for, read_all
from benchmarks.calibration.results import ALPHA, Answers, Counting
from benchmarks.calibration.scenarios import LOOKS, Hypothesis, Traffic
from benchmarks.calibration.traffic import Ints, counters
from services.rollout import abtest
from services.rollout.analysis import Counts
from services.rollout.analysis.asymptotic import LookSums
from services.rollout.analysis.clumps import Clumps
from services.rollout.state import AbVerdict, ObjectiveState
from services.rollout.unit_counts import can_count
from shared.pipeline import AbTest

# Kinds of traffic that tests are simulated in: independent events, clumps within looks, and clumps over looks.
TESTED = ("iid", "sessions", "clustered")
TESTS: dict[Counting, AbTest] = {"users": AbTest.model_validate(BY_USER), "no users": AbTest.model_validate(BY_LOOK)}


@dataclass(frozen=True)
class _Known:
    """What was counted until each look of one test; ``[LOOKS, ...]``.

    Attributes:
        requests: ``[2, 2]`` bad and all, of stable and of the candidate.
        units: ``[2, 2]`` users who met a bad one and users served.
        products: ``[4, 4]`` as in `LookSums`.
        looks: with requests.
    """

    requests: Ints
    units: Ints
    products: Ints
    looks: Ints

    def at(self, look: int, *, counted: bool) -> ObjectiveState:
        """What the controller then knows; of users, if they are counted."""
        stable, candidate = (Counts(bad=bad, total=total) for bad, total in self.requests[look].tolist())
        units = self.units[look].tolist() if counted else [(0, 0), (0, 0)]
        stable_units, candidate_units = (Counts(bad=bad, total=total) for bad, total in units)
        return ObjectiveState(
            stable=stable, candidate=candidate,
            clumps=Clumps(stable=stable, candidate=candidate, stable_units=stable_units,
                          candidate_units=candidate_units),
            looks=LookSums(looks=int(self.looks[look]), sums=tuple(self.requests[look].ravel().tolist()),
                           products=tuple(tuple(row) for row in self.products[look].tolist())),
        )


def answers(
    traffic: Traffic, hypothesis: Hypothesis, runs: int, random: np.random.Generator
) -> list[Answers]:
    """How tests of each counting end, on the same counters; asked at every look."""
    halves = replace(traffic, weights=np.full(LOOKS, 0.5))
    read = read_all(counters(halves, hypothesis, runs, random), policy_for(halves))
    known = [_known(read, run) for run in range(runs)]
    found = []
    for counting, test in TESTS.items():
        ends = [_end(one, test) for one in known]
        found.append(Answers(counting=counting, traffic=traffic.name, hypothesis=hypothesis.name, runs=runs,
                             candidate=ends.count("candidate"), stable=ends.count("stable")))
    return found


def _known(read: Read, run: int) -> _Known:
    look = np.stack([read.stable[run], read.candidate[run]], axis=1).astype(np.int64)
    flat = look.reshape(LOOKS, 4)
    bad_units = np.cumsum(read.units[run, :, :, 0], axis=0)
    units = np.stack([bad_units, np.maximum(read.served[run], bad_units)], axis=-1).astype(np.int64)
    return _Known(np.cumsum(look, axis=0), units, np.cumsum(flat[:, :, None] * flat[:, None, :], axis=0),
                  np.cumsum(flat.any(axis=1)))


def _end(known: _Known, test: AbTest) -> AbVerdict:
    """The first answer, if there is one."""
    for look in range(LOOKS):
        found = abtest.verdict(abtest.effect(known.at(look, counted=can_count(test)), test, ALPHA), test)
        if found != "undecided":
            return found
    return "undecided"
