"""A rollout as a page: whole XML in the picture, every decision in the table, nothing that a name can break."""

import re
import xml.etree.ElementTree as ET
from typing import Any

from services.cli.report.figure import figure
from services.cli.report.page import page
from services.cli.report.series import story

SVG = "{http://www.w3.org/2000/svg}"


def decision(second: int, action: str, weight: int, e_harm: float = 1.0, e_safe: float = 1.0, **more: Any) -> Any:
    numbers = {"stable_bad": 1, "stable_total": 90, "candidate_bad": 2, "candidate_total": 10, "e_harm": e_harm,
               "harm_threshold": 40.0, "e_safe": e_safe, "safe_threshold": 20.0, "verdict": "undecided"}
    return {"id": second, "at": f"2026-01-01T00:00:{second:02d}Z", "action": action, "rule": "evidence",
            "reason": "because", "step": 1, "weight": weight, "by": "", "verdict": "undecided",
            "evidence": {"errors": numbers}, **more}


def rollout(**changes: Any) -> Any:
    return {"id": "m-r2", "model_version": "m@2", "stable": None, "phase": "rolled_back", "reason": "errors: too many",
            "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:30Z", "guardrail": "errors",
            "users_exposed": 7, "seconds_exposed": 24.0, "withdrawal": None, "control": None, "objectives": [],
            "ab_test": None, "latency": None, **changes}


# Newest first, as the controller gives them.
DECISIONS = [
    decision(30, "rollback", 0, e_harm=55.0, e_safe=0.004), decision(20, "hold", 2000, e_harm=9.0, e_safe=0.3),
    decision(10, "advance", 2000), decision(0, "stage", 0),
]


def points(svg: str, style: str) -> list[tuple[float, float]]:
    [line] = [node for node in ET.fromstring(svg).iter(f"{SVG}polyline") if node.get("class") == style]  # noqa: S314
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.get("points", "").split())]


def thresholds(svg: str) -> dict[str, float]:
    lines = [node for node in ET.fromstring(svg).iter(f"{SVG}line") if "threshold" in node.get("class", "")]  # noqa: S314
    return {node.get("class", "").split()[0]: float(node.get("y1", "")) for node in lines}


def test_a_line_crosses_its_threshold_where_the_evidence_did() -> None:
    svg = figure(story(rollout(), DECISIONS))
    harm, safe, at = points(svg, "line harm"), points(svg, "line safe"), thresholds(svg)
    assert [y < at["harm"] for _, y in harm] == [False, False, False, True]
    assert all(y > at["safe"] for _, y in safe)
    assert [x for x, _ in harm] == sorted(x for x, _ in harm)


def test_decisions_that_changed_something_are_numbered_in_picture_and_table() -> None:
    told = story(rollout(), DECISIONS)
    assert [(mark.number, mark.item["action"]) for mark in told.marks] == \
        [(1, "stage"), (2, "advance"), (3, "rollback")]
    texts = [node.text for node in ET.fromstring(figure(told)).iter(f"{SVG}text")]  # noqa: S314
    assert [text for text in texts if text in ("1", "2", "3", "4")].count("3") == 1
    assert "4" not in texts
    html = page("t", [("chapter", rollout(), DECISIONS)])
    for text in ("55 / 40", "0.004 / 20", "2 of 10 (20.0 %)", "1 of 90 (1.1 %)", "rollback (evidence)", "All 4 stored"):
        assert text in html


def test_users_are_told_where_they_are_counted() -> None:
    item = decision(0, "advance", 2000)
    item["evidence"]["errors"] |= {"candidate_bad_units": 2, "candidate_units": 8, "stable_bad_units": 1,
                                   "stable_units": 70}
    html = page("t", [("c", rollout(), [item])])
    assert "2 of 10 (20.0 %), 2 of 8 users" in html
    assert "2026-01-01 00:00:30 UTC" in html


def test_the_latency_of_both_versions_is_shown() -> None:
    latency = {"alpha": 0.05,
               "stable": [{"level": 0.5, "low": 0.25, "high": 0.5, "estimate": 0.5}],
               "candidate": [{"level": 0.99, "low": 1.0, "high": None, "estimate": None}]}
    html = page("t", [("c", rollout(latency=latency), DECISIONS)])
    assert "<dt>latency of stable, surely (95 %)</dt><dd>p50 0.25s to 0.5s</dd>" in html
    assert "<dt>latency of candidate, surely (95 %)</dt><dd>p99 1s to more</dd>" in html
    assert "latency of" not in page("t", [("c", rollout(), DECISIONS)])


def test_evidence_beyond_all_measure_stays_inside_the_picture() -> None:
    extreme = [decision(5, "promote", 10_000, e_harm=0.0, e_safe=1e260), decision(0, "advance", 2000)]
    svg = figure(story(rollout(), extreme))
    height = float(re.findall(r'viewBox="0 0 \d+ (\d+)"', svg)[0])
    assert all(0 <= y <= height for kind in ("line harm", "line safe") for _, y in points(svg, kind))


def test_names_and_reasons_are_text_and_never_markup() -> None:
    evil = "<script>alert('x')</script>&\""
    item = decision(0, "advance", 2000, reason=evil)
    item["evidence"] = {f"latency>2.5s{evil}": item["evidence"]["errors"]}
    html = page(evil, [(evil, rollout(reason=evil, id=evil), [item])])
    assert "<script" not in html
    ET.fromstring(re.findall(r"<svg.*</svg>", html, re.DOTALL)[0])  # noqa: S314


def test_of_very_many_looks_a_page_has_enough_and_all_that_changed_something() -> None:
    many = [decision(0, "hold", 5000, at=f"2026-01-0{1 + n // 1440}T{n // 60 % 24:02d}:{n % 60:02d}:00Z")
            for n in range(4000)]
    many[1234] = {**many[1234], "action": "extend"}
    told = story(rollout(), many[::-1])
    assert len(told.looks) < 700
    assert [mark.item["action"] for mark in told.marks] == ["extend"]
    assert told.looks[-1].item == many[-1]
    assert f"{len(told.looks)} of 4000 stored looks" in page("t", [("c", rollout(), many)])


def test_a_rollout_without_decisions_and_one_of_a_single_moment() -> None:
    assert "No decisions yet." in page("t", [("c", rollout(phase="staging", users_exposed=None), [])])
    assert "<svg" in page("t", [("c", rollout(), [decision(0, "stage", 0)])])
