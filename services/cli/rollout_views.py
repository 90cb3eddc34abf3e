"""What people see of a rollout: phase, step, weight, and each guardrail's counts and e-values. Pure."""

from collections.abc import Mapping
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
        "STARTED": lambda i: words.ago(i["started_at"], now),
    }, empty="no rollouts; a registered model version starts one")


def step(item: Item) -> str:
    """The step as people count: 1 of 3."""
    steps = item["steps"] if isinstance(item["steps"], int) else len(item["steps"] or [])
    return f"{min(item['step'] + 1, steps)} of {steps}" if steps else "-"


def rollout(item: Item, now: datetime) -> RenderableType:
    facts = pairs({
        "id": item["id"], "pipeline": item["pipeline"], "route": item["route"],
        "candidate": item["model_version"], "stable": item["stable"] or "base model",
        "phase": words.state(item["phase"]), "why": item["reason"] or "", "step": step(item),
        "weight": words.share(item["weight"]),
        "took": words.between(item["started_at"], item["finished_at"], now),
        "users exposed": _count(item.get("users_exposed")),
        "exposed for": words.duration(item["seconds_exposed"]) if item.get("seconds_exposed") is not None else "",
    })
    bar = ProgressBar(total=10_000, completed=item["weight"] or 0, width=60)
    return Group(facts, bar, Text(), guardrails(item.get("guardrails") or []))


def guardrails(items: list[Item]) -> RenderableType:
    """A row per guardrail. Harm fires when its e-value reaches the threshold; safe is when the other one does."""
    return rows(items, {
        "GUARDRAIL": lambda i: i["metric"],
        "STABLE BAD/TOTAL": lambda i: _counts(i["stable"]),
        "CANDIDATE BAD/TOTAL": lambda i: _counts(i["candidate"]),
        "E HARM": lambda i: _evidence(i["e_harm"], i["harm_threshold"]),
        "E SAFE": lambda i: _evidence(i["e_safe"], i["safe_threshold"]),
        "VERDICT": lambda i: words.state(i["verdict"]),
    }, empty="no counts yet")


def _counts(item: Item | None) -> str:
    if not item or item.get("total") is None:
        return "no data"
    bad, total = item["bad"], item["total"]
    return f"{bad:g}/{total:g}" + (f" ({100 * bad / total:.1f} %)" if total else "")


def _evidence(value: float | None, threshold: float | None) -> str:
    return "-" if value is None else f"{value:.3g} / {threshold:.3g}" if threshold is not None else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def rollout_line(item: Item) -> str:
    """A rollout on one line, for logs."""
    why = f": {item['reason']}" if item["reason"] else ""
    return f"{item['phase']}, step {step(item)}, weight {words.share(item['weight'])}{why}"


def decisions(answer: Item) -> RenderableType:
    return rows(answer["items"], {
        "AT": lambda i: i["at"],
        "VERDICT": lambda i: words.state(i["verdict"]),
        "ACTION": lambda i: i["action"] or "-",
        "STEP": lambda i: words.number(i["step"]),
        "WEIGHT": lambda i: words.share(i["weight"]),
        "WHY": lambda i: i["reason"] or "-",
    }, empty="no decisions yet")
