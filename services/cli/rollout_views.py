"""What people see of a rollout: phase, step, weight, and each guardrail's counts and e-values. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from services.cli import words
from services.cli.output import pairs, rows

Item = Mapping[str, Any]
FINAL = frozenset({"promoted", "rolled_back", "superseded"})


def rollouts(answer: Item, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "ID": lambda i: i["id"],
        "MODEL VERSION": lambda i: i["model_version"],
        "STABLE": lambda i: i["stable"] or "base model",
        "PHASE": lambda i: words.state(i["phase"]),
        "STEP": step,
        "WEIGHT": lambda i: words.share(i["weight"]),
        "WHY": lambda i: i["reason"] or "-",
        "CREATED": lambda i: words.ago(i["created_at"], now),
    }, empty="no rollouts; a registered model version starts one")


def step(item: Item) -> str:
    """Where it is among the policy's steps; 0 before the candidate has traffic."""
    return f"{item['step']} of {item['steps']}"


def rollout(item: Item, now: datetime) -> RenderableType:
    facts = pairs({
        "id": item["id"], "pipeline": item["pipeline"], "route": item["route"],
        "candidate": item["model_version"] + (f" (attempt {item['attempt']})" if item["attempt"] > 1 else ""),
        "stable": item["stable"] or "base model",
        "phase": words.state(item["phase"]), "why": item["reason"] or "", "step": step(item),
        "since": words.ago(item["since"], now),
        "weight": words.share(item["weight"]),
        "control": f"{item['control']}, {words.share(item['control_weight'])}" if item["control"] else "",
        "copies": words.share(item["shadow"]) if item["shadow"] else "",
        "took": words.between(item["started_at"], item["finished_at"], now) if item["started_at"] else "",
        "guardrail that fired": item["guardrail"] or "",
        "users exposed": "" if item["users_exposed"] is None else str(item["users_exposed"]),
        "exposed for": "" if item["seconds_exposed"] is None else words.duration(item["seconds_exposed"]),
        "weight 0 at gateways": withdrawal(item["withdrawal"]),
    })
    bar = ProgressBar(total=10_000, completed=item["weight"], width=60)
    against = versus(item)
    tested = [Text(), ab_test(item["ab_test"], against)] if item["ab_test"] else []
    if item["objectives"]:
        tested += [Text(), objectives(item["objectives"], against)]
    if item["latency"]:
        tested += [Text(), latency(item["latency"], against)]
    called = [Text(), webhooks(item["webhooks"])] if item["webhooks"] else []
    return Group(facts, bar, Text(), guardrails(item["guardrails"], against), *tested, *called)


def webhooks(items: list[Item]) -> RenderableType:
    """A row per webhook and notification that was called."""
    return rows(items, {
        "WEBHOOK": lambda i: i["name"],
        "TYPE": lambda i: i["type"],
        "OUTCOME": lambda i: words.state(i["outcome"]),
        "CALLS": lambda i: words.number(i["calls"]),
        "FAILED": lambda i: words.number(i["failed"]),
        "LAST ANSWER": lambda i: i["said"] or "-",
    }, empty="")


def versus(item: Item) -> str:
    """The role that the candidate is compared with."""
    return "control" if item["control"] else "stable"


def withdrawal(item: Item | None) -> str:
    """How long the gateways took to give the candidate nothing; empty where it had nothing, or has it still."""
    if item is None:
        return ""
    if item["seconds"] is None:
        return f"{item['state']}: {item['waiting'] or 'the gateways are asked'}"
    since = "the scrape that showed it" if item["sampled_at"] else "the decision"
    many = "the gateway" if item["gateways"] == 1 else f"all {item['gateways']} gateways"
    return f"{item['seconds']:.1f}s after {since}, at {many}"


def ab_test(item: Item, against: str) -> RenderableType:
    """Each variant's counts, and the effect with its interval.

    Args:
        against: the role that the candidate is compared with.
    """
    sure = f"{100 * (1 - item['alpha']):g} %"
    names = {"stable": against, "candidate": "candidate"}
    variants = rows([{"role": names[role], "counts": item[role]} for role in names], {
        f"A/B TEST: {item['metric'].upper()}": lambda i: i["role"],
        "EVENTS": lambda i: _counts(i["counts"]),
    }, empty="")
    effect = item["effect"]
    estimate = "unknown" if effect["estimate"] is None else points(effect["estimate"])
    return Group(variants, Text.assemble(
        f"effect: the candidate is better by {estimate} points, surely ({sure}, at all times) between "
        f"{points(effect['low'])} and {points(effect['high'])}; decided beyond {points(item['min_effect'])}: ",
        words.state(item["verdict"]),
    ))


def latency(item: Item, against: str) -> RenderableType:
    """Between what each version's quantiles surely are."""
    names = {"stable": against, "candidate": "candidate"}
    return rows([{"role": name, "quantiles": item[role]} for role, name in names.items()], {
        "LATENCY": lambda i: i["role"],
        f"SURELY, AT {100 * (1 - item['alpha']):g} %": lambda i: quantiles(i["quantiles"]) or "-",
    }, empty="")


def objectives(items: list[Item], against: str) -> RenderableType:
    """A row per objective: met when the whole interval is above what it needs, missed when all of it is below."""
    return rows(items, {
        "OBJECTIVE": lambda i: f"{i['metric']}, {i['goal'].replace('_', ' ')}",
        against.upper(): lambda i: _counts(i["stable"]),
        "CANDIDATE": lambda i: _counts(i["candidate"]),
        "BETTER BY, SURELY": lambda i: f"{points(i['effect']['low'])} to {points(i['effect']['high'])}",
        "NEEDS": lambda i: f"over {points(i['bound'])}",
        "VERDICT": lambda i: words.state(i["verdict"]),
        "NO DATA": lambda i: i["no_data"] or "",
    }, empty="")


def points(share: float) -> str:
    """A difference of shares: +1.2."""
    return f"{100 * share:+.2g}" if abs(share) < 0.1 else f"{100 * share:+.0f}"


def quantiles(items: Sequence[Item]) -> str:
    """Between what each surely is: ``p50 0.25s to 0.5s, p99 1s to more``."""
    return ", ".join(map(_quantile, items))


def _quantile(item: Item) -> str:
    high = "more" if item["high"] is None else f"{item['high']:g}s"
    return f"p{100 * item['level']:g} {item['low']:g}s to {high}"


def guardrails(items: list[Item], against: str) -> RenderableType:
    """A row per guardrail: harm is proved, or safety is, when the e-value reaches the threshold beside it."""
    return rows(items, {
        "GUARDRAIL": lambda i: i["metric"],
        f"{against.upper()} BAD/TOTAL": lambda i: _counts(i["stable"]),
        "CANDIDATE BAD/TOTAL": lambda i: _counts(i["candidate"]),
        "E HARM": lambda i: _evidence(i["e_harm"], i["harm_threshold"]),
        "E SAFE": lambda i: _evidence(i["e_safe"], i["safe_threshold"]),
        "VERDICT": lambda i: words.state(i["verdict"]),
        "NO DATA": lambda i: i["no_data"] or "",
    }, empty="no guardrails")


def _counts(item: Item) -> str:
    bad, total = item["bad"], item["total"]
    return f"{bad}/{total}" + (f" ({100 * bad / total:.1f} %)" if total else "")


def _evidence(value: float, threshold: float) -> str:
    return f"{value:.3g} / {threshold:.3g}"


def rollout_line(item: Item) -> str:
    """A rollout on one line, for logs."""
    seen = ", ".join(
        f"{guardrail['metric']} {guardrail['verdict']} {_counts(guardrail['candidate'])}"
        for guardrail in item["guardrails"]
    )
    tested = f", A/B {item['ab_test']['metric']} {item['ab_test']['verdict']}" if item.get("ab_test") else ""
    why = f": {item['reason']}" if item["reason"] else ""
    return f"{item['phase']}, step {step(item)}, weight {words.share(item['weight'])}, {seen}{tested}{why}"


def decisions(answer: Item) -> RenderableType:
    return rows(answer["items"], {
        "AT": lambda i: i["at"],
        "VERDICT": lambda i: words.state(i["verdict"]),
        "ACTION": lambda i: i["action"],
        "RULE": lambda i: i["rule"],
        "STEP": lambda i: words.number(i["step"]),
        "WEIGHT": lambda i: words.share(i["weight"]),
        "BY": lambda i: i["by"] or "controller",
        "EVIDENCE": _evidences,
        "WHY": lambda i: i["reason"] or "-",
    }, empty="no decisions yet")


def _evidences(item: Item) -> str:
    return "\n".join(_told(name, numbers) for name, numbers in item["evidence"].items())


# Below this, the e-value of a split that is not as meant is nothing to speak of.
_DOUBTFUL_SPLIT = 10


def _told(name: str, numbers: Item) -> str:
    """What one guardrail, or the A/B test, had counted and shown when a decision was taken."""
    counts = (f"{name}: {numbers['candidate_bad']:g}/{numbers['candidate_total']:g} against "
              f"{numbers['stable_bad']:g}/{numbers['stable_total']:g}")
    if "effect" in numbers:
        return (f"{counts}, better by {points(numbers['effect'])} points ({points(numbers['effect_low'])} to "
                f"{points(numbers['effect_high'])}, decided beyond {points(numbers['min_effect'])})")
    users = "" if "candidate_units" not in numbers else (
        f", users {numbers['candidate_bad_units']:g}/{numbers['candidate_units']:g} against "
        f"{numbers['stable_bad_units']:g}/{numbers['stable_units']:g}"
    )
    users += "" if "candidate_alone_bad" not in numbers else (
        f", alone bad for {numbers['candidate_alone_bad']:g} users against {numbers['stable_alone_bad']:g}"
    )
    split = "" if numbers.get("e_split", 0) < _DOUBTFUL_SPLIT else (
        f", split not as meant {_evidence(numbers['e_split'], numbers['split_threshold'])}"
    )
    return (
        f"{counts}{users}, harm {_evidence(numbers['e_harm'], numbers['harm_threshold'])}, "
        f"safe {_evidence(numbers['e_safe'], numbers['safe_threshold'])}{split}"
    )


def turns(decisions: list[Item]) -> RenderableType:
    """The decisions that changed something, oldest first."""
    changed = [item for item in decisions if item["action"] != "hold"]
    return rows(changed[::-1], {
        "DECISION": lambda i: i["action"],
        "RULE": lambda i: i["rule"],
        "WEIGHT": lambda i: words.share(i["weight"]),
        "CANDIDATE AGAINST STABLE, E-VALUES / THRESHOLDS": _evidences,
    }, empty="no decisions yet")
