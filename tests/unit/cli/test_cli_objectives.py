"""Objectives and the control as people see them."""

from typing import Any

from rich.console import Console

from services.cli import rollout_views
from services.cli.report.figure import figure
from services.cli.report.series import story
from tests.unit.cli.test_cli_report import rollout

OBJECTIVE: dict[str, Any] = {
    "metric": "refusals", "goal": "not_worse", "direction": "lower", "stable": {"bad": 3, "total": 300},
    "candidate": {"bad": 4, "total": 310}, "effect": {"low": -0.015, "high": 0.01, "estimate": -0.003}, "bound": -0.02,
    "verdict": "met", "no_data": None,
}


def test_an_objective_is_a_row_with_what_it_needs() -> None:
    console = Console(width=200)
    with console.capture() as shown:
        console.print(rollout_views.objectives([OBJECTIVE], "control"))
    for word in ("refusals, not worse", "CONTROL", "3/300 (1.0 %)", "4/310", "-1.5 to +1", "over -2", "met"):
        assert word in shown.get(), word


def test_each_objective_has_a_panel_in_the_picture() -> None:
    numbers = {"stable_bad": 3, "stable_total": 300, "candidate_bad": 4, "candidate_total": 310, "effect": -0.003,
               "effect_low": -0.015, "effect_high": 0.01, "min_effect": -0.02, "verdict": "candidate"}
    guarded = {"stable_bad": 0, "stable_total": 300, "candidate_bad": 0, "candidate_total": 310, "e_harm": 1.0,
               "harm_threshold": 20.0, "e_safe": 30.0, "safe_threshold": 20.0, "verdict": "safe"}
    decisions = [
        {"at": f"2026-01-01T00:00:{second:02}Z", "action": "advance", "rule": "evidence", "weight": 2000, "by": "",
         "reason": "", "step": 1, "verdict": "safe",
         "evidence": {"A/B thumbs_down": numbers, "objective refusals": numbers, "errors": guarded}}
        for second in (0, 10)
    ]
    told = story(rollout(), decisions)
    assert [effect.name for effect in told.effects] == ["A/B thumbs_down", "objective refusals"]
    drawn = figure(told)
    assert drawn.count("candidate better by, points") == 2
    assert [guardrail.name for guardrail in told.guardrails] == ["errors"]
