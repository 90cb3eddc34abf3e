"""What was measured, and the one gate that all contenders must pass. Pure."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.calibration.scenarios import (
    COMMON,
    EQUAL,
    IID,
    LOOKS,
    MARGIN,
    NO_CHANGE,
    TENFOLD,
    THREEFOLD,
    TRAFFIC,
)

ALPHA = BETA = 0.05
# At most so many looks, in the median, to find ten times the bad rate; and at least so often three times.
SOON, POWER = 8, 0.9

OURS = "tuneloop"
BY_REQUEST = "tuneloop, countBy: request"
NO_USERS = "tuneloop, no users counted"
Z_TEST, MANN_WHITNEY, BY_LOOK = "repeated z-test", "repeated Mann-Whitney", "differences by look"
FLAGGER, ARGO = "Flagger-like", "Argo-like"
Bar = Literal["false rollback", "false rollback, common", "false promotion", "looks to find tenfold",
              "power at threefold", "false rollback, no users", "false rollback, common, no users",
              "false winner", "false winner, no users"]
CONTENDERS = (OURS, BY_REQUEST, NO_USERS, FLAGGER, ARGO, Z_TEST, MANN_WHITNEY, BY_LOOK)
# Where nobody comes again in a later look. There what names no user has a bound, too.
PASSING = tuple(traffic.name for traffic in TRAFFIC if not traffic.users)
# What names users, and what names none: how A/B tests are counted.
Counting = Literal["users", "no users"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Part):
    """What one contender did in one scenario.

    Attributes:
        runs: simulated rollouts.
        rolled_back: how many at each look, from the first.
        promoted: how many would have been, by the last look, if nothing but the evidence had held them.
    """

    contender: str
    traffic: str
    hypothesis: str
    runs: int = Field(gt=0)
    rolled_back: tuple[int, ...] = Field(min_length=LOOKS, max_length=LOOKS)
    promoted: int

    @property
    def share_rolled_back(self) -> float:
        return sum(self.rolled_back) / self.runs

    @property
    def share_promoted(self) -> float:
        return self.promoted / self.runs

    @property
    def median_look(self) -> int | None:
        """By which half of all rollouts were rolled back; None where fewer ever were."""
        by = np.cumsum(self.rolled_back)
        return int(np.argmax(by >= self.runs / 2)) + 1 if by[-1] >= self.runs / 2 else None


class Answers(_Part):
    """How A/B tests ended in one scenario.

    Attributes:
        counting: what their metric counts, which decides the interval.
        candidate: how many were won by the candidate, and `stable` by stable.
    """

    counting: Counting
    traffic: str
    hypothesis: str
    runs: int = Field(gt=0)
    candidate: int
    stable: int

    @property
    def share_answered(self) -> float:
        return (self.candidate + self.stable) / self.runs

    @property
    def share_candidate(self) -> float:
        return self.candidate / self.runs


class Results(_Part):
    """One run of the calibration.

    Attributes:
        seed: the same seed gives the same cells.
        checked: rollouts per scenario that also went through the whole reducer, and came out the same.
        rules: what the tuned rules are, by contender.
        machine: what it ran on.
        seconds: processor time of all of it.
    """

    seed: int
    checked: int
    rules: dict[str, str]
    machine: str
    seconds: float
    cells: tuple[Cell, ...]
    answers: tuple[Answers, ...] = ()

    def cell(self, contender: str, traffic: str, hypothesis: str) -> Cell | None:
        """One cell; None where it was not measured."""
        key = contender, traffic, hypothesis
        return next((cell for cell in self.cells if (cell.contender, cell.traffic, cell.hypothesis) == key), None)


    def answer(self, counting: Counting, traffic: str, hypothesis: str) -> Answers | None:
        """How one kind of A/B test ended; None where it was not measured."""
        key = counting, traffic, hypothesis
        return next((one for one in self.answers if (one.counting, one.traffic, one.hypothesis) == key), None)


class Verdict(_Part):
    """Whether one bar holds.

    Attributes:
        measured: None where it never came to that.
        limit: the bar, with three standard errors of the simulation where it bounds a small chance.
    """

    bar: Bar
    traffic: str
    runs: int
    measured: float | None
    limit: float
    held: bool


def gate(results: Results, contender: str = OURS) -> list[Verdict]:
    """Judge a contender by all bars, for the scenarios that were measured."""
    verdicts: list[Verdict] = []
    for cell in results.cells:
        if cell.contender == contender:
            verdicts += _judged(cell)
    return sorted(verdicts, key=lambda verdict: get_args(Bar).index(verdict.bar))


def promises(results: Results) -> list[Verdict]:
    """All that tuneloop promises: the gate, the same of what names no user where it has a bound, and A/B tests."""
    verdicts = gate(results)
    bars: dict[str, Bar] = {NO_CHANGE.name: "false rollback, no users",
                            COMMON.name: "false rollback, common, no users"}
    verdicts += [
        _at_most(bars[cell.hypothesis], cell, cell.share_rolled_back, bound(ALPHA, cell.runs)) for cell in results.cells
        if cell.contender == NO_USERS and cell.hypothesis in bars and cell.traffic in PASSING
    ]
    verdicts += [
        _at_most("false winner" if one.counting == "users" else "false winner, no users", one, one.share_answered,
                 bound(ALPHA, one.runs))
        for one in results.answers
        if one.hypothesis == EQUAL.name and (one.counting == "users" or one.traffic in PASSING)
    ]
    return verdicts


def _judged(cell: Cell) -> list[Verdict]:
    plain, look = cell.traffic == IID, cell.median_look
    if cell.hypothesis == NO_CHANGE.name:
        return [_at_most("false rollback", cell, cell.share_rolled_back, bound(ALPHA, cell.runs))]
    if cell.hypothesis == COMMON.name:
        return [_at_most("false rollback, common", cell, cell.share_rolled_back, bound(ALPHA, cell.runs))]
    if cell.hypothesis == MARGIN.name:
        return [_at_most("false promotion", cell, cell.share_promoted, bound(BETA, cell.runs))]
    if cell.hypothesis == TENFOLD.name and plain:
        return [_at_most("looks to find tenfold", cell, look, SOON)]
    if cell.hypothesis == THREEFOLD.name and plain:
        held = cell.share_rolled_back >= POWER
        return [_verdict("power at threefold", cell, cell.share_rolled_back, POWER, held)]
    return []


def _at_most(bar: Bar, cell: Cell | Answers, measured: float | None, limit: float) -> Verdict:
    return _verdict(bar, cell, measured, limit, measured is not None and measured <= limit)


def _verdict(bar: Bar, cell: Cell | Answers, measured: float | None, limit: float, held: bool) -> Verdict:
    return Verdict(bar=bar, traffic=cell.traffic, runs=cell.runs, measured=measured, limit=limit, held=held)


def bound(chance: float, runs: int) -> float:
    """The most that is measured in so many runs of something with this chance, but for three standard errors."""
    return chance + 3 * math.sqrt(chance * (1 - chance) / runs)


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that do not hold."""
    return [verdict for verdict in verdicts if not verdict.held]
