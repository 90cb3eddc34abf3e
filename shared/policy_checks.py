"""What a rollout policy can get wrong though each of its keys is right: found when it is applied, with the remedy.

These are no validators of the model: a policy that was stored or sent before a check existed must still be readable, or
its rollout could not even be aborted.
"""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.gateway_metrics import SLO_BOUNDS
from shared.promql import selectors
from shared.webhooks import receiver_problems, webhook_problems

if TYPE_CHECKING:
    from shared.pipeline import AbTest, Counted, Guardrail, Objective, RolloutPolicy

_SHORTEST_INTERVAL = timedelta(seconds=1)
_MOST_WITH_CONTROL = 50


def policy_problems(policy: "RolloutPolicy") -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the policy."""
    yield from _times(policy)
    yield from _shares(policy)
    names: dict[str, int] = {}
    for index, guardrail in enumerate(policy.guardrails):
        path = f"guardrails.{index}"
        if (first := names.setdefault(guardrail.called, index)) != index:
            yield path, f"{guardrail.called} is guarded twice, also by guardrails.{first}; remove one of them"
        for key, problem in _guardrail(guardrail):
            yield f"{path}.{key}", problem
    yield from _control(policy)
    if policy.ab_test is not None:
        yield from _ab_test(policy, policy.ab_test)
    yield from _objectives(policy)
    names |= dict.fromkeys((goal.called for goal in policy.goals), -1)
    for unknown in sorted(policy.expected_traffic.bad_rates.keys() - names) if policy.expected_traffic else ():
        yield f"expectedTraffic.badRates.{unknown}", f"the policy counts no {unknown}; it counts {', '.join(names)}"
    for path, problem in webhook_problems(policy.webhooks):
        yield f"webhooks.{path}", problem
    for path, problem in receiver_problems(policy.notifications or []):
        yield f"notifications.{path}", problem


def _ab_test(policy: "RolloutPolicy", test: "AbTest") -> Iterator[tuple[str, str]]:
    for key, problem in _counted(test):
        yield f"abTest.{key}", problem
    if len(policy.steps) != 1:
        yield "steps", ("an A/B test has one fixed split; give exactly one step, such as "
                        "[{weight: 50, minDuration: 1d, minRequests: 1000}]")
    elif policy.steps[0].weight >= 100:
        yield "steps.0.weight", "100 leaves nobody with stable to compare with; take 50 for the quickest answer"
    yield from _namesake(policy, test, "abTest")


def _objectives(policy: "RolloutPolicy") -> Iterator[tuple[str, str]]:
    taken = {policy.ab_test.called: "abTest"} if policy.ab_test is not None else {}
    for index, objective in enumerate(policy.objectives):
        path = f"objectives.{index}"
        for key, problem in _counted(objective):
            yield f"{path}.{key}", problem
        if (first := taken.setdefault(objective.called, path)) != path:
            yield path, f"{objective.called} is what {first} is about already; remove one of them"
        if objective.metric == "feedback_score" and objective.direction == "lower":
            yield f"{path}.direction", "the mean score of feedback is better when it is higher; write direction: higher"
        if objective.goal == "not_worse" and objective.margin == 0:
            yield f"{path}.margin", ("with goal: not_worse, 0 can never be proved of a version that is as good; give "
                                     "the least difference that matters, such as 0.02")
        yield from _namesake(policy, objective, path)
    if policy.objectives and policy.steps[-1].weight >= 100:
        yield f"steps.{len(policy.steps) - 1}.weight", (
            "100 leaves nobody to compare the candidate with, and objectives are proved in the last step; take 50"
        )


def _namesake(policy: "RolloutPolicy", goal: "AbTest | Objective", path: str) -> Iterator[tuple[str, str]]:
    twin = next((guardrail for guardrail in policy.guardrails if guardrail.called == goal.called), None)
    if twin is not None and (twin.bad, twin.total) != (goal.bad, goal.total):
        yield f"{path}.name", f"a guardrail is called {goal.called} too, and counts something else; rename one of them"


def _control(policy: "RolloutPolicy") -> Iterator[tuple[str, str]]:
    """The control gets what the candidate gets."""
    for index, step in enumerate(policy.steps if policy.control else ()):
        if step.weight > _MOST_WITH_CONTROL:
            yield f"steps.{index}.weight", (
                f"{step.weight:g} for the candidate and as much for the control do not fit in 100; take at most "
                f"{_MOST_WITH_CONTROL}, or remove control"
            )


def _times(policy: "RolloutPolicy") -> Iterator[tuple[str, str]]:
    if policy.interval < _SHORTEST_INTERVAL:
        yield "interval", "a look each second is the most there is; Prometheus has nothing new more often"
    if not policy.deadline:
        yield "deadline", "0s is over before anything can be proved; give it hours, as `tuneloop rollouts plan` says"
    if not policy.load_deadline:
        yield "loadDeadline", "0s rolls back every candidate before a replica can load it; 10m is the default"


def _shares(policy: "RolloutPolicy") -> Iterator[tuple[str, str]]:
    """The split deals in basis points; what is finer would be rounded to another share, or to none."""
    shares = {f"steps.{index}.weight": step.weight for index, step in enumerate(policy.steps)}
    if policy.shadow is not None:
        shares["shadow.percent"] = policy.shadow.percent
    for path, percent in shares.items():
        if not math.isclose(100 * percent, round(100 * percent), abs_tol=1e-6):
            yield path, (f"{percent:g} % cannot be dealt: the split has steps of 0.01 %; take "
                         f"{max(1, round(100 * percent)) / 100:g}")


def _guardrail(guardrail: "Guardrail") -> Iterator[tuple[str, str]]:
    yield from _counted(guardrail)
    if guardrail.hard_limit is not None and guardrail.hard_limit <= guardrail.tolerable_rate:
        yield "hardLimit", (
            f"{guardrail.hard_limit:g} would roll back what tolerableRate ({guardrail.tolerable_rate:g}) calls "
            "tolerable; raise it above that, or write null for none"
        )


def _counted(what: "Counted") -> Iterator[tuple[str, str]]:
    bounds = SLO_BOUNDS.get(what.metric, ())
    if bounds and what.slo_seconds not in bounds:
        yield "sloSeconds", (
            f"{what.slo_seconds:g} is no bucket of the gateway's histogram, so nobody counts what is slower; "
            f"take one of {', '.join(f'{bound:g}' for bound in bounds)}"
        )
    if what.metric != "promql":
        return
    for key, text in (("bad", what.bad), ("total", what.total)):
        try:
            selectors(text or "")
        except ValueError as error:
            yield key, str(error)
    if what.bad == what.total:
        yield "bad", "it is the same as total, so every event would be bad"
