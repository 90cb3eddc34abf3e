"""From a question to its answer: simulates each candidate's rollouts, as many as the looks allow."""

from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta

import numpy as np

from services.rollout.guardrails import counted_in
from services.rollout.plan import summary
from services.rollout.plan.contract import Answer, Candidate, Plan, Request
from services.rollout.plan.simulate import Run, simulate, stable_rates
from shared.errors import InvalidInputError

# Looks are what takes time, half a millisecond each and more. Most rollouts need fewer than this.
_LOOKS_PER_RUN = 30
# By so much of stable's share beyond what is asked the candidates are better and worse at what is compared.
_NOTABLE = 0.2
# Worse than this is no candidate but a broken one.
_WORST = 0.95


def plan(request: Request, workers: int) -> Plan:
    """Simulate every candidate, in `workers` processes.

    Raises:
        InvalidInputError: a guardrail is named that the policy does not have.
    """
    names = [counted.called for counted in counted_in(request.policy)]
    asked = {*request.traffic.bad_rates, *(c.guardrail for c in request.candidates if c.guardrail)}
    for unknown in sorted(asked.difference(names)):
        raise InvalidInputError(f"the policy has no guardrail {unknown!r}; it has {', '.join(names)}")
    jobs = [(request, index) for index in range(len(request.candidates))]
    if workers == 1 or len(jobs) == 1:
        answers = [_answer(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
            answers = list(pool.map(_answer, *zip(*jobs, strict=True)))
    return Plan(traffic=request.traffic, candidates=answers)


def _answer(request: Request, index: int) -> Answer:
    candidate, traffic, deadline = request.candidates[index], request.traffic, request.policy.deadline.total_seconds()
    stable = stable_rates(request.policy, traffic)
    better = [goal.called for goal in request.policy.goals if goal.bound >= 0]
    guardrail = candidate.guardrail or next(iter([*better, *stable]))
    rate = _default_rate(request, candidate, guardrail) if candidate.bad_rate is None else candidate.bad_rate
    # A good one is better at all that it shall be better at.
    also = {name: _default_rate(request, candidate, name) for name in better if candidate.name == "good"}
    runs = _runs(request, {**stable, **also, guardrail: rate}, index)
    users = None if traffic.users is None else summary.spread([
        summary.users_by(run, deadline, traffic.users, traffic.requests_per_minute / 60) for run in runs
    ])
    return Answer(
        name=candidate.name, guardrail=guardrail, stable_bad_rate=stable[guardrail], candidate_bad_rate=rate,
        runs=len(runs), ends=summary.ends(runs, deadline), seconds=summary.seconds(runs, deadline),
        requests=summary.spread([summary.requests_by(run, deadline) for run in runs]), users=users,
        fired=_fired(runs, deadline), promoted_90_seconds=summary.promoted_90(runs),
    )


def _default_rate(request: Request, candidate: Candidate, guardrail: str) -> float:
    stable = stable_rates(request.policy, request.traffic)[guardrail]
    goal = next((goal for goal in request.policy.goals if goal.called == guardrail), None)
    better = candidate.name == "good"
    if goal is not None and (goal.bound >= 0 or not better):
        by = abs(goal.bound) + _NOTABLE * stable
        return min(1.0, max(0.0, stable - by if better == (goal.direction == "lower") else stable + by))
    if better:
        return stable
    [tolerable] = [mine.tolerable_rate for mine in request.policy.guardrails if mine.called == guardrail]
    return min(_WORST, max(10 * stable, 2 * tolerable))


def _runs(request: Request, rates: dict[str, float], index: int) -> list[Run]:
    horizon = timedelta(seconds=request.policy.deadline.total_seconds() * request.horizon)
    runs: list[Run] = []
    looks = 0
    while len(runs) < request.runs and looks < request.runs * _LOOKS_PER_RUN:
        random = np.random.default_rng([request.seed, index, len(runs)])
        runs.append(simulate(request.policy, request.traffic, rates, horizon, random))
        looks += runs[-1].looks
    return runs


def _fired(runs: list[Run], deadline: float) -> dict[str, int]:
    fired: dict[str, int] = {}
    for run in runs:
        if summary.end_by(run, deadline) == "rolled_back":
            fired[run.fired] = fired.get(run.fired, 0) + 1
    return fired
