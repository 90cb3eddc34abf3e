"""The page around the picture: what happened, each decision in numbers, and how to read them."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from typing import Any

from services.cli import words
from services.cli.report.figure import figure
from services.cli.report.series import Mark, Story, story
from services.cli.rollout_views import quantiles, versus, withdrawal

Item = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #6b7280; --line: #d8dce2; --paper: #fff; --good: #15803d;
  --bad: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --faint: #9aa3af; --line: #30363d; --paper: #14171b;
  --good: #4ade80; --bad: #fb923c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1080px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin-top: 3rem; } h3 { font-size: 1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line); }
th { border-top: 0; color: var(--faint); font-weight: 600; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; } td.why { color: var(--faint); padding-bottom: .8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { color: var(--faint); } dd { margin: 0; } tr.why td { border-top: 0; }
.promoted, .safe { color: var(--good); } .rolled_back, .harmful { color: var(--bad); }
.scroll { overflow-x: auto; } svg { width: 100%; height: auto; } summary { cursor: pointer; margin-top: 1rem; }
""".strip()

_READING = """<h2>How to read this</h2>
<p>An e-value is what the evidence is worth: 1 says nothing, and while there is <em>no</em> harm the one for harm ever
reaches 40 with a chance of at most one in forty, however often one looks. <b>harm</b>: at its threshold the candidate
is rolled back. <b>safe</b>: at its threshold the candidate is surely below the margin, or below what is tolerable; a
step is passed while every guardrail is. <b>A/B</b>: by how many points the candidate's share is better, with an
interval that holds at all times at once; the test is over when all of it is on one side of the dashed green line.
Numbers in circles are the decisions of the table; what changed nothing is in the list of all looks only.</p>"""


def page(title: str, chapters: Sequence[tuple[str, Item, Sequence[Item]]]) -> str:
    """A page of rollouts.

    Args:
        chapters: per rollout a heading, the rollout, and its decisions, as the controller's API gives them.
    """
    body = "\n".join(_chapter(heading, rollout, decisions) for heading, rollout, decisions in chapters)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n{_READING}\n</body></html>\n"
    )


def _chapter(heading: str, rollout: Item, decisions: Sequence[Item]) -> str:
    told = story(rollout, decisions)
    drawn = f'<div class="scroll">{figure(told)}</div>' if told.looks else "<p>No decisions yet.</p>"
    phase = rollout["phase"]
    return (
        f'<h2>{escape(heading)}: <span class="{phase}">{escape(phase.replace("_", " "))}</span></h2>\n'
        f"<p>{escape(rollout['reason'] or '')}</p>\n{_facts(rollout)}\n{drawn}\n"
        f"<h3>Decisions</h3>\n{_table(told.marks, versus(rollout))}\n"
        f"<details><summary>{_how_many(told)}</summary>{_table(told.looks, versus(rollout))}</details>"
    )


def _how_many(told: Story) -> str:
    shown = len(told.looks)
    return f"All {shown} stored looks" if shown == told.stored else f"{shown} of {told.stored} stored looks"


def _facts(rollout: Item) -> str:
    users, exposed = rollout["users_exposed"], rollout["seconds_exposed"]
    facts = {
        "rollout": rollout["id"], "candidate": rollout["model_version"],
        "compared with": rollout["control"] or rollout["stable"] or "base model",
        "began": _moment(rollout["started_at"]), "ended": _moment(rollout["finished_at"]),
        "guardrail that fired": rollout["guardrail"] or "", "users exposed": "" if users is None else str(users),
        "exposed for": "" if exposed is None else words.duration(exposed),
        "weight 0 at gateways": withdrawal(rollout["withdrawal"]), **_latencies(rollout),
    }
    return "<dl>" + "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value
    ) + "</dl>"


def _latencies(rollout: Item) -> dict[str, str]:
    """Of both versions."""
    latency = rollout["latency"]
    if latency is None:
        return {}
    names = {"stable": versus(rollout), "candidate": "candidate"}
    return {f"latency of {name}, surely ({100 * (1 - latency['alpha']):g} %)": quantiles(latency[role])
            for role, name in names.items()}


def _moment(text: str | None) -> str:
    """To the second: 2026-11-25 04:27:47 UTC."""
    then = words.moment(text)
    return "" if then is None else f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _table(marks: Sequence[Mark], against: str) -> str:
    """A row per decision and guardrail; what belongs to the decision is said in its first row."""
    head = "".join(f"<th>{name}</th>" for name in (
        "", "after", "decision", "weight", "guardrail", "candidate", against, "harm / rolls back at",
        "safe / passes at", "",
    ))
    rows = "".join(_rows(mark) for mark in marks)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _rows(mark: Mark) -> str:
    item = mark.item
    number = "" if item["action"] == "hold" else str(mark.number)
    first = [number, words.duration(mark.seconds), f"{item['action']} ({item['rule']})", words.share(item["weight"])]
    lines = []
    for index, (name, numbers) in enumerate(item["evidence"].items()):
        told = first if index == 0 else [""] * len(first)
        cells = [*told, name, _counts(numbers, "candidate"), _counts(numbers, "stable"), *_shown(numbers)]
        verdict = numbers["verdict"]
        lines.append("<tr>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
                     + f'<td class="{verdict}">{verdict.replace("_", " ")}</td></tr>')
    why = f'<tr class="why"><td></td><td></td><td class="why" colspan="8">{escape(item["reason"])}</td></tr>'
    return "".join([*lines, why])


def _shown(numbers: Item) -> tuple[str, str]:
    """What the counts show: a guardrail's two e-values, an A/B test's effect and when it decides."""
    if "effect" in numbers:
        low, effect, high = (f"{100 * numbers[key]:+.2g}" for key in ("effect_low", "effect", "effect_high"))
        return f"better by {effect} ({low} to {high})", f"decided beyond {100 * numbers['min_effect']:g}"
    return (f"{numbers['e_harm']:.3g} / {numbers['harm_threshold']:.3g}",
            f"{numbers['e_safe']:.3g} / {numbers['safe_threshold']:.3g}")


def _counts(numbers: Item, arm: str) -> str:
    bad, total = numbers[f"{arm}_bad"], numbers[f"{arm}_total"]
    share = f" ({100 * bad / total:.1f} %)" if total else ""
    bad_users, users = numbers.get(f"{arm}_bad_units"), numbers.get(f"{arm}_units")
    alone = numbers.get(f"{arm}_alone_bad")
    return (f"{bad:g} of {total:g}{share}" + ("" if users is None else f", {bad_users:g} of {users:g} users")
            + ("" if alone is None else f", alone bad for {alone:g} users"))
