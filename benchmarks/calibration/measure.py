"""Runs the whole comparison: every contender on the same counters of every scenario. Seeded."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from benchmarks.calibration import abtests, controller, rules
from benchmarks.calibration.results import (
    ALPHA,
    ARGO,
    BY_LOOK,
    BY_REQUEST,
    FLAGGER,
    MANN_WHITNEY,
    NO_USERS,
    OURS,
    Z_TEST,
    Answers,
    Cell,
    Results,
)
from benchmarks.calibration.scenarios import (
    BETTER,
    COMMON,
    EQUAL,
    HYPOTHESES,
    IID,
    LOOKS,
    MARGIN,
    MUCH_BETTER,
    NO_CHANGE,
    TENFOLD,
    THREEFOLD,
    TRAFFIC,
    TWOFOLD,
    Hypothesis,
    Traffic,
)
from benchmarks.calibration.traffic import Ints, counters

# The rules are tuned on other random numbers than they are measured on, and A/B tests have their own.
_TUNING, _TESTS = 1_000_000, 2_000_000


@dataclass(frozen=True)
class Plan:
    """How much of it.

    Attributes:
        runs: rollouts by hypothesis; none for one that is left out.
        power: rollouts where a bar asks for power, so that chance does not decide; none: as many as elsewhere.
        tuning: rollouts per hypothesis that the rules are tuned on.
        checked: rollouts per scenario that also go through the whole reducer.
        traffic: names of those that are wanted.
        tests: A/B tests by hypothesis.
    """

    seed: int = 1
    runs: Mapping[str, int] = field(default_factory=lambda: {
        NO_CHANGE.name: 1000, MARGIN.name: 400, THREEFOLD.name: 300, TENFOLD.name: 200, COMMON.name: 400,
        TWOFOLD.name: 200,
    })
    power: int = 2500
    tuning: int = 1000
    checked: int = 5
    traffic: Sequence[str] = tuple(traffic.name for traffic in TRAFFIC)
    tests: Mapping[str, int] = field(default_factory=lambda: {
        EQUAL.name: 300, BETTER.name: 100, MUCH_BETTER.name: 100,
    })


@dataclass(frozen=True)
class _Test:
    traffic: Traffic
    hypothesis: Hypothesis
    runs: int
    seed: Sequence[int]


@dataclass(frozen=True)
class _Job:
    plan: Plan
    traffic: Traffic
    hypothesis: Hypothesis
    tuned: Mapping[str, rules.Rule]
    seed: Sequence[int]


def measure(plan: Plan, tuned: Mapping[str, rules.Rule], workers: int = 1) -> Results:
    """Run it, in so many processes.

    Args:
        tuned: the rules, by contender.

    Raises:
        DisagreementError: the reducer and the arrays decided differently.
    """
    jobs = [
        _Job(plan, traffic, hypothesis, tuned, (plan.seed, row, column))
        for column, hypothesis in enumerate(HYPOTHESES) if plan.runs.get(hypothesis.name)
        for row, traffic in enumerate(TRAFFIC) if traffic.name in plan.traffic
    ]
    tests = [
        _Test(traffic, hypothesis, plan.tests[hypothesis.name], (plan.seed, _TESTS, row, column))
        for column, hypothesis in enumerate((EQUAL, BETTER, MUCH_BETTER)) if plan.tests.get(hypothesis.name)
        for row, traffic in enumerate(TRAFFIC) if traffic.name in plan.traffic and traffic.name in abtests.TESTED
    ]
    if workers == 1:
        done, answered = [_scenario(job) for job in jobs], [_tested(test) for test in tests]
    else:
        with ProcessPoolExecutor(workers) as pool:
            done, answered = list(pool.map(_scenario, jobs)), list(pool.map(_tested, tests))
    return Results(
        seed=plan.seed, checked=plan.checked, rules={name: rule.words for name, rule in tuned.items()}, machine="",
        seconds=sum(spent for _, spent in [*done, *answered]), cells=tuple(cell for cells, _ in done for cell in cells),
        answers=tuple(answers for found, _ in answered for answers in found),
    )


def tuned_rules(plan: Plan) -> dict[str, rules.Rule]:
    """Flagger's and Argo's kind of rule at their best for independent requests."""
    plain = TRAFFIC[0]
    harmless, *worse = [
        rules.increases(counters(plain, hypothesis, plan.tuning,
                                 np.random.default_rng([plan.seed, _TUNING, HYPOTHESES.index(hypothesis)])))
        for hypothesis in (NO_CHANGE, THREEFOLD, TENFOLD)
    ]
    return {
        FLAGGER: rules.tuned(rules.flagger_like(), harmless, worse, ALPHA),
        ARGO: rules.tuned(rules.argo_like(), harmless, worse, ALPHA),
    }


def _scenario(job: _Job) -> tuple[list[Cell], float]:
    """All contenders in one scenario, and the processor time that it took."""
    begun = time.process_time()
    plan, traffic, hypothesis = job.plan, job.traffic, job.hypothesis
    runs = plan.runs[hypothesis.name]
    if traffic.name == IID and hypothesis.name == THREEFOLD.name:
        runs = plan.power or runs
    drawn = counters(traffic, hypothesis, runs, np.random.default_rng(job.seed))
    cells = []
    policy = controller.policy_for(traffic)
    read = controller.read_all(drawn, policy)
    for name, guardrail in ((OURS, controller.BY_USER), (BY_REQUEST, controller.BY_REQUEST),
                            (NO_USERS, controller.BY_LOOK)):
        rules_of = controller.policy_for(traffic, guardrail)
        decisions = controller.many(read, traffic, rules_of)
        controller.agree(drawn, decisions, traffic, rules_of, range(min(plan.checked, runs)))
        cells.append(_cell(name, job, decisions.rolled_back, int((decisions.safe > 0).sum())))
    seen = rules.increases(drawn)
    others = {
        **{name: rule.fired(seen) for name, rule in job.tuned.items()},
        Z_TEST: rules.peeking_z_test(seen, ALPHA), MANN_WHITNEY: rules.repeated_mann_whitney(seen),
        BY_LOOK: rules.differences_by_look(seen, ALPHA),
    }
    for name, fired in others.items():
        looks = controller.first(fired)
        cells.append(_cell(name, job, looks, int((looks == 0).sum())))
    return cells, time.process_time() - begun


def _tested(test: _Test) -> tuple[list[Answers], float]:
    """A/B tests in one scenario, asked at every look, and the processor time that they took."""
    begun = time.process_time()
    found = abtests.answers(test.traffic, test.hypothesis, test.runs, np.random.default_rng(test.seed))
    return found, time.process_time() - begun


def _cell(contender: str, job: _Job, looks: Ints, promoted: int) -> Cell:
    return Cell(
        contender=contender, traffic=job.traffic.name, hypothesis=job.hypothesis.name, runs=len(looks),
        rolled_back=tuple(np.bincount(looks, minlength=LOOKS + 1)[1:].tolist()), promoted=promoted,
    )
