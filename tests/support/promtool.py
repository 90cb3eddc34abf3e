"""promtool, which comes with Prometheus: checks rules, and runs them over series that a test writes down."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promql import Expression, operands

RULES = Path(__file__).parents[2] / "charts" / "tuneloop" / "rules"


@dataclass(frozen=True)
class Case:
    """What fires after some time.

    Attributes:
        series: a value each minute by series, in promtool's notation (``0+1x60``).
        at: when it is looked, such as ``20m``.
        fires: alerts with those labels of theirs that are not the rule's own; nothing else may fire.
    """

    name: str
    series: Mapping[str, str]
    at: str
    fires: Sequence[tuple[str, Mapping[str, str]]] = ()


def rule_files() -> list[Path]:
    """The chart's rules."""
    return sorted(RULES.glob("*.yaml"))


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """All alerts by name, each with the `file` that it is in; not to be changed."""
    return {
        rule["alert"]: {**rule, "file": path.stem}
        for path in rule_files() for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
        if "alert" in rule
    }


def looked_at() -> list[Expression]:
    """All that alerts and recording rules look at, without the help of recorded series."""
    rules = [rule for path in rule_files() for group in yaml.safe_load(path.read_text())["groups"]
             for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"].strip() for rule in rules if "record" in rule}
    name = re.compile("|".join(rf"{re.escape(record)}(?:\{{[^}}]*\}})?" for record in sorted(recorded, reverse=True)))

    def whole(text: str) -> str:
        return name.sub(lambda found: f"({recorded[found[0].partition('{')[0]]})", text)

    return [Expression(rule.get("alert") or rule["record"], operand)
            for rule in rules for operand in operands(whole(rule["expr"]))]


def promtool(*arguments: str) -> str:
    """Run it; what it said, which is the reason where it fails."""
    binary = shutil.which("promtool", path="/usr/bin:/usr/local/bin") or shutil.which("promtool")
    if binary is None:
        pytest.fail("no promtool here; apt-get install prometheus")
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_cases(cases: Sequence[Case], folder: Path) -> None:
    """Run all cases; says which one did not go as written, and what fired instead."""
    for every, long in (("1m", False), ("3m", True)):
        # What takes long is looked at less often: promtool computes every rule at each look.
        tests = [_test(case) for case in cases if (int(case.at.removesuffix("m")) >= 45) == long]
        path = folder / f"rules.{every}.yaml"
        path.write_text(yaml.safe_dump({
            "rule_files": [str(file) for file in rule_files()], "evaluation_interval": every, "tests": tests,
        }))
        promtool("test", "rules", str(path))


def _test(case: Case) -> dict[str, Any]:
    known = alerts()
    return {
        "name": case.name, "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [{
            "expr": 'ALERTS{alertstate="firing"}', "eval_time": case.at,
            "exp_samples": [
                {"value": 1, "labels": _series(alert, {**known[alert]["labels"], **labels})}
                for alert, labels in case.fires
            ],
        }],
    }


def _series(alert: str, labels: Mapping[str, str]) -> str:
    pairs = {"alertname": alert, "alertstate": "firing", **labels}
    return "ALERTS{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in pairs.items()) + "}"
