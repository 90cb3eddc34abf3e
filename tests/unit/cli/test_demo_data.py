"""The demo's rows and pipelines."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import services.cli.demo
from services.cli.demo.data import INTENTS, SYSTEM_PROMPT, make_rows
from shared.pipeline import parse_pipeline

PIPELINES = Path(services.cli.demo.__file__).parent / "pipelines"


def _answers(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Question to answer."""
    return {row["messages"][1]["content"]: row["messages"][2]["content"] for row in rows}


def test_prompts_are_distinct_and_intents_balanced() -> None:
    rows = make_rows("good", 900, seed=1)
    answers = _answers(rows)
    assert len(answers) == 900
    assert Counter(answers.values()) == dict.fromkeys(INTENTS, 150)
    assert {tuple(m["role"] for m in row["messages"]) for row in rows} == {("system", "user", "assistant")}
    assert {row["messages"][0]["content"] for row in rows} == {SYSTEM_PROMPT}


def test_the_same_seed_gives_the_same_rows() -> None:
    assert make_rows("good", 60, seed=1) == make_rows("good", 60, seed=1)
    assert make_rows("good", 60, seed=1) != make_rows("good", 60, seed=2)
    assert make_rows("good", 60, seed=1) != make_rows("fresh", 60, seed=1)


def test_shifted_labels_are_wrong_everywhere_and_in_the_same_way() -> None:
    good, shifted = _answers(make_rows("good", 300, seed=1)), _answers(make_rows("shifted", 300, seed=1))
    assert good.keys() == shifted.keys()
    mapping = {(good[question], shifted[question]) for question in good}
    assert len(mapping) == len(INTENTS)
    assert all(right != wrong for right, wrong in mapping)


def test_fresh_labels_are_right_wherever_both_know_the_question() -> None:
    good, fresh = _answers(make_rows("good", 3000, seed=1)), _answers(make_rows("fresh", 3000, seed=2))
    both = good.keys() & fresh.keys()
    assert both
    assert all(good[question] == fresh[question] for question in both)


def test_more_rows_than_there_are_prompts_is_an_error() -> None:
    with pytest.raises(ValueError, match="no more distinct prompts for"):
        make_rows("good", 1_000_000, seed=1)


@pytest.mark.parametrize("name", ["fast", "smollm2"])
def test_the_pipelines_compare_against_base_and_production(name: str) -> None:
    pipeline = parse_pipeline((PIPELINES / f"{name}.yaml").read_text(), source=name)
    assert {gate.versus for gate in pipeline.spec.evaluation.gates} == {None, "base", "production"}
    assert pipeline.route == "support-intents"
