"""What people see of drift: each feature beside its reference, and what an alarm rested on. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from services.cli import words
from services.cli.output import pairs, rows

Item = Mapping[str, Any]
# Where approximations end.
_SMALLEST_P = 1e-6
_NOTHING = (
    "nothing is watched yet: traffic is sampled where the pipeline has spec.capture, and compared once a model "
    "version answers"
)


def series(answer: Item, now: datetime) -> RenderableType:
    """A row per watched model version."""
    return rows(answer["items"], {
        "ROUTE": lambda i: i["route"],
        "MODEL VERSION": lambda i: i["model_version"],
        "SAMPLES": lambda i: str(i["samples"]),
        "WINDOWS": lambda i: str(i["windows"]),
        "MOST EVIDENCE": lambda i: _most(i["features"]),
        "LAST ALARM": lambda i: words.ago(i["last_alarm"]["at"], now) if i["last_alarm"] else "-",
        "ACTION": lambda i: i["action"],
        "SAMPLED": lambda i: words.ago(i["updated_at"], now),
    }, empty=_NOTHING)


def _most(features: Sequence[Item]) -> str:
    best = max((i for i in features if i["watched"]), key=lambda i: i["evidence"], default=None)
    return f"{best['feature']} {_evidence(best)}" if best and best["evidence"] else "-"


def route(name: str, answer: Item, now: datetime) -> RenderableType:
    """Every feature of the route's model versions."""
    if not answer["items"]:
        return Text(f"{name}: {_NOTHING}")
    blocks: list[RenderableType] = []
    for item in answer["items"]:
        blocks += [Text()] if blocks else []
        blocks += [_facts(item, now)] if item["problem"] else [_facts(item, now), Text(), _features(item)]
    return Group(*blocks)


def _facts(item: Item, now: datetime) -> RenderableType:
    return pairs({
        "route": item["route"], "model version": item["model_version"],
        "problem": Text(item["problem"], style="red"),
        "samples": f"{item['samples']} in {item['windows']} windows; {item['filled']} of {item['window_samples']} for "
                   "the next one",
        "last sample": words.ago(item["updated_at"], now),
        "false alarms": f"one in {item['average_run']} windows, on average, at most",
        "on an alarm": item["action"],
        "last alarm": _alarm(item["last_alarm"], now) if item["last_alarm"] else "none",
    })


def _alarm(item: Item, now: datetime) -> str:
    features = ", ".join(evidence["feature"] for evidence in item["fact"]["evidence"])
    return f"{words.ago(item['at'], now)}, {item['id']}: {features}"


def _features(item: Item) -> RenderableType:
    return rows(item["features"], {
        "FEATURE": lambda i: i["feature"] if i["watched"] else f"{i['feature']} (no alarm)",
        "STATISTIC": lambda i: Text(
            f"{i['statistic']:.3f}", style="yellow" if i["statistic"] > i["threshold"] else ""
        ),
        "USUAL": lambda i: f"to {i['threshold']:.3f}",
        "P": lambda i: f"{i['p_value']:.2g}" if i["p_value"] >= _SMALLEST_P else f"< {_SMALLEST_P:g}",
        "EVIDENCE/ALARM AT": lambda i: Text(
            _evidence(i), style="red" if i["evidence"] >= i["evidence_threshold"] else ""
        ),
        "WINDOW/REFERENCE": lambda i: f"{i['window_samples']}/{i['reference_samples']}",
        "CHANGED MOST (REFERENCE > WINDOW)": lambda i: _changed(i["largest"]),
    }, empty="the first window is not full yet")


def _evidence(item: Item) -> str:
    return f"{item['evidence']:.3g} / {item['evidence_threshold']:.3g}"


def _changed(shares: Sequence[Item]) -> str:
    return ", ".join(f"{i['bucket']}: {100 * i['reference']:.0f} > {100 * i['window']:.0f} %" for i in shares)


def alarms(answer: Item, now: datetime) -> RenderableType:
    """A row per alarm and feature."""
    items = [{**item, **item["fact"], **evidence} for item in answer["items"] for evidence in item["fact"]["evidence"]]
    return rows(items, {
        "ALARM": lambda i: i["id"],
        "WHEN": lambda i: words.ago(i["at"], now),
        "MODEL VERSION": lambda i: i["model_version"],
        "ACTION": lambda i: i["action"],
        "FEATURE": lambda i: i["feature"],
        "STATISTIC": lambda i: f"{i['statistic']:.3f}, usual to {i['threshold']:.3f}",
        "EVIDENCE": _evidence,
        "WINDOW/REFERENCE": lambda i: f"{i['window_samples']}/{i['reference_samples']}",
        "CHANGED MOST (REFERENCE > WINDOW)": lambda i: _changed(i["largest"]),
    }, empty="no alarms")
