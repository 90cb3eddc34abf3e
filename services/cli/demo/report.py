"""What the demo shows at the end: the numbers of each chapter, the lineage, and where to look. Pure."""

from collections.abc import Mapping
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli import rollout_views, views, words
from services.cli.client import Json
from services.cli.demo.story import Chapter
from services.cli.report.page import page


def chapter(item: Chapter) -> RenderableType:
    """One chapter in numbers: rows, training, measurements, gates, and the canary."""
    loop = item.loop
    parts: list[RenderableType] = []
    if loop.dataset is not None:
        rejected = sum((loop.dataset["rows_rejected"] or {}).values())
        parts.append(Text(f"prepared: {loop.dataset['rows_in']} rows in, {words.splits(loop.dataset['rows'])}, "
                          f"{rejected} left out"))
    if loop.run is not None:
        parts.append(Text(f"trained: {views.run_line(loop.run)}"))
    if loop.evaluation is not None:
        evaluation = loop.evaluation
        parts += [views.measurements(evaluation["measurements"] or []), views.gates(evaluation["gates"] or [])]
    if item.rollout is not None:
        against = rollout_views.versus(item.rollout)
        parts += [rollout_views.guardrails(item.rollout["guardrails"], against), Text(),
                  rollout_views.turns([*item.decisions])]
    return Group(*parts)


def outcome(item: Chapter) -> Text:
    """What happened, in one sentence with the numbers that decided it."""
    rollout = item.rollout
    if rollout is None:
        reason = item.loop.evaluation["reason"] if item.loop.evaluation else ""
        return Text.assemble(("stopped by the evaluation gate", "yellow"), f": {reason}. It never got a request.")
    if rollout["phase"] == "promoted":
        return Text.assemble(("promoted to 100 %", "green"), f" after {_took(rollout)}: {rollout['reason']}")
    fired = next((g for g in rollout["guardrails"] if g["metric"] == rollout["guardrail"]), None)
    evidence = "" if fired is None else (
        f"; {fired['metric']}: {fired['candidate']['bad']} bad of {fired['candidate']['total']} against "
        f"{fired['stable']['bad']} of {fired['stable']['total']}, e-value {fired['e_harm']:.3g} "
        f"(threshold {fired['harm_threshold']:.3g})"
    )
    users = "an unknown number of" if rollout["users_exposed"] is None else rollout["users_exposed"]
    return Text.assemble(
        ("rolled back by itself", "red"),
        f" {words.duration(rollout['seconds_exposed'])} after its first request, {users} users touched{evidence}",
    )


def _took(rollout: Json) -> str:
    # Both times are set once a rollout has ended.
    end = words.moment(rollout["finished_at"])
    return words.between(rollout["started_at"], rollout["finished_at"], end) if isinstance(end, datetime) else "-"


def summary(chapters: list[Chapter]) -> Table:
    """A row per dataset."""
    table = Table(title="What happened", title_justify="left", show_lines=True)
    table.add_column("dataset", no_wrap=True)
    table.add_column("exact match", no_wrap=True)
    table.add_column("outcome")
    for item in chapters:
        loop = item.loop
        name = str(loop.dataset["name"]) if loop.dataset else "-"
        version = loop.model["model_version"] if loop.model else "no model version"
        table.add_row(f"{name}\n{item.title}\n{version}", _exact_match(loop.evaluation), outcome(item))
    return table


def _exact_match(evaluation: Json | None) -> str:
    """Each measurement of exact match on a line of its own; a star marks production's held-out rows."""
    return "\n".join(
        f"{m['subject']:<10} {m['metrics']['exact_match']:.2f}" + (" *" if m["on"] == "production_heldout" else "")
        for m in (evaluation or {}).get("measurements") or []
        if "exact_match" in m["metrics"]
    )


def picture(chapters: list[Chapter]) -> str:
    """The rollouts as a page: e-values against thresholds over time, and every decision."""
    return page("What the demo decided", [
        (f"{item.title}, {item.rollout['model_version']}", item.rollout, item.decisions)
        for item in chapters if item.rollout is not None
    ])


def urls(stack: Mapping[str, Json]) -> Table:
    """Where to look while the stack runs."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, path in (("gateway", "/v1/models"), ("registry", "/docs"), ("rollout", "/docs")):
        table.add_row(name, stack["services"][name]["url"] + path)
    table.add_row("Prometheus", stack["prometheus"]["url"] + "/graph?g0.expr=tuneloop_rollout_e_value&g0.tab=0")
    return table
