"""What a person may get wrong in a pipeline's YAML, and what they are told."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.pipeline import Pipeline, parse_pipeline
from shared.spec_part import format_duration, parse_duration

HEADER = "apiVersion: tuneloop.dev/v1\nkind: Pipeline\nmetadata: {name: p}\n"


def parse(spec: str) -> Pipeline:
    return parse_pipeline(HEADER + spec, source="p.yaml")


@pytest.mark.parametrize(("spec", "message"), [
    ("spec: {baseModel: tiny, trainig: {}}", "p.yaml: spec.trainig: unknown key; see docs/pipeline.md"),
    ("spec: {baseModel: tiny, training: {lora: {rnak: 4}}}", "p.yaml: spec.training.lora.rnak: unknown key"),
    ("spec: {}", "p.yaml: spec.baseModel: Field required"),
    ("spec: [", "p.yaml: not valid YAML at line 4, column 8"),
    ("spec:\n  baseModel: tiny\n  baseModel: other\n",
     "p.yaml: not valid YAML at line 6, column 3: the key 'baseModel' stands twice"),
    ("spec: {baseModel: tiny, rollout: {interval: soon}}", "'soon' is not a duration"),
    ("spec: {baseModel: tiny, rollout: {interval: 999999999999d}}", "longer than a duration can be"),
    ("spec: {baseModel: tiny, rollout: {steps: [{weight: 50}, {weight: 10}]}}", "weights must rise"),
    ("spec: {baseModel: 2026-13-45}", "p.yaml: not valid YAML: month must be in 1..12"),
    ("spec: {baseModel: tiny}\n---\nkind: Pipeline\n", "at line 5, column 1: but found another document"),
    ("spec: {baseModel: tiny, training: {resources: {memory: lots}}}", "p.yaml: spec.training.resources.memory: "),
    ("spec: {baseModel: tiny, training: {resources: {nodes: 2}}}", "nodes above 1 are for training on GPUs: set gpu"),
    ("spec: {baseModel: tiny, evaluation: {resources: {gpu: 2}}}", "p.yaml: spec.evaluation.resources.gpu: "),
    ("spec: {baseModel: tiny, evaluation: {gates: [{metric: exact_match}]}}", "give exactly one of min, max"),
])
def test_a_mistake_is_named_with_its_place(spec: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n", "\0", "a: *nowhere"])
def test_what_is_no_document_at_all(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^p\.yaml: "):
        parse_pipeline(text, source="p.yaml")


def test_on_is_a_key_and_not_a_boolean() -> None:
    gates = parse("spec:\n  baseModel: tiny\n  evaluation:\n    gates:\n    - metric: exact_match\n"
                  "      on: production_heldout\n      min: 0.5\n").spec.evaluation.gates
    assert gates[0].on == "production_heldout"


@pytest.mark.parametrize(("word", "meaning"), [("true", True), ("false", False), ("no", False), ("off", False)])
def test_booleans_in_values_are_what_they_seem(word: str, meaning: bool) -> None:
    assert parse(f"spec: {{baseModel: tiny, triggers: {{onDataset: {word}}}}}").spec.triggers.on_dataset is meaning


@pytest.mark.parametrize(("text", "size"), [("24Gi", 24 * 2**30), ("500M", 500 * 10**6), ("2G", 2 * 10**9)])
def test_memory_is_counted_in_bytes(text: str, size: int) -> None:
    training = parse(f"spec: {{baseModel: tiny, training: {{resources: {{memory: {text}}}}}}}").spec.training
    assert training.resources.request()["memory"] == size


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)))
def test_durations_survive_a_round_trip(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value
