"""What people see of a plan. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from services.cli import words
from services.cli.output import pairs, rows
from shared.pipeline import Objective, RolloutPolicy, RolloutStep, ShadowStep

Item = Mapping[str, Any]


def plan(answer: Item, policy: RolloutPolicy, source: str) -> RenderableType:
    """The policy, what it was simulated with, and a column for each candidate."""
    traffic, candidates = answer["traffic"], answer["candidates"]
    stable = ", ".join(dict.fromkeys(f"{percent(c['stable_bad_rate'])} ({c['guardrail']})" for c in candidates))
    facts = pairs({
        "policy": source, "steps": _steps(policy),
        "control": "as much traffic as the candidate" if policy.control else "", "A/B test": _test(policy),
        "objectives": ", ".join(_objective(objective) for objective in policy.objectives),
        "deadline": f"{_time(policy.deadline.total_seconds())}, then {policy.on_insufficient_evidence}",
        "traffic": f"{traffic['requests_per_minute']:g} requests/min; stable is bad in {stable}",
        "simulated": f"{_runs(candidates)} with the controller's own code; in brackets the Monte-Carlo error at 95 %",
    })
    columns: dict[str, Any] = {"": lambda line: Text(line[""], style="bold")}
    for candidate in candidates:
        columns[f"{candidate['name'].upper()} CANDIDATE"] = lambda line, name=candidate["name"]: line[name]
    return Group(facts, Text(), rows(_lines(candidates), columns, empty=""), *_advice(answer, policy))


def _lines(candidates: Sequence[Item]) -> list[dict[str, Any]]:
    measures: dict[str, Any] = {
        "bad rate": lambda c: f"{percent(c['candidate_bad_rate'])} ({c['guardrail']})",
        "promoted": lambda c: _chance(c["ends"]["promoted"]),
        "rolled back": lambda c: _chance(c["ends"]["rolled_back"]),
        "undecided at the deadline": lambda c: _chance(c["ends"]["undecided"]),
        "promoted after, median": lambda c: _spread(c["seconds"].get("promoted"), _time),
        "rolled back after, median": lambda c: _spread(c["seconds"].get("rolled_back"), _time),
        "requests exposed, median": lambda c: _spread(c["requests"], _count),
        "users exposed, median": lambda c: _spread(c["users"], _count),
    }
    lines = [{"": name} | {c["name"]: cell(c) for c in candidates} for name, cell in measures.items()]
    return [line for line in lines if any(value != "-" for key, value in line.items() if key)]


def _advice(answer: Item, policy: RolloutPolicy) -> list[Text]:
    """What would help good candidates, where too few are promoted."""
    good = next(c for c in answer["candidates"] if c["name"] == "good")
    if good["ends"]["promoted"]["share"] >= 0.9:
        return []
    return [Text(f"\n{shortfall(good, answer['traffic'], policy)}", style="yellow")]


def shortfall(good: Item, traffic: Item, policy: RolloutPolicy) -> str:
    """In a sentence or two: how few good candidates are promoted in time, and what would help."""
    needed = good["promoted_90_seconds"]
    longer = "four times as long is not enough" if needed is None else f"it takes {_time(needed)}"
    rates = f"{good['guardrail']}: {percent(good['candidate_bad_rate'])}, stable {percent(good['stable_bad_rate'])}"
    return (
        f"At {traffic['requests_per_minute']:g} requests/min {_chance(good['ends']['promoted'])} of good candidates "
        f"({rates}) are promoted by the deadline of {_time(policy.deadline.total_seconds())}; for nine of ten of them "
        f"{longer}. What helps: a longer deadline, larger weights, a larger tolerableRate or margin, a lower "
        "minRequests or minDuration."
    )


def _test(policy: RolloutPolicy) -> str:
    test = policy.ab_test
    return "" if test is None else (
        f"{test.called}: better is {test.direction} by more than {100 * test.min_effect:g} points, "
        "with every guardrail safe"
    )


def _objective(objective: Objective) -> str:
    return f"{objective.called} {objective.goal.replace('_', ' ')} by more than {100 * objective.margin:g} points"


def _steps(policy: RolloutPolicy) -> str:
    return ", ".join(
        f"{_gets(step)} for {_time(step.min_duration.total_seconds())} and {step.min_requests} requests"
        for step in policy.stages
    )


def _gets(step: RolloutStep | ShadowStep) -> str:
    return f"copies of {step.percent:g} %" if isinstance(step, ShadowStep) else f"{step.weight:g} %"


def _runs(candidates: Sequence[Item]) -> str:
    counts = sorted({c["runs"] for c in candidates})
    return f"{'-'.join(str(count) for count in counts)} rollouts each"


def percent(share: float) -> str:
    """A share with as many digits as it needs: 0.1 %, 31 %."""
    return f"{100 * share:.3g} %"


def _chance(item: Item) -> str:
    return f"{percent(round(item['share'], 3))} ({100 * item['low']:.0f}-{100 * item['high']:.0f})"


def _spread(item: Item | None, show: Any) -> str:
    return "-" if item is None else f"{show(item['median'])}, 90 % within {show(item['p90'])}"


def _count(value: float) -> str:
    return f"{value:.0f}"


def _time(seconds: float) -> str:
    return words.duration(seconds)
