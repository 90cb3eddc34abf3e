"""The registry's decisions: which fact wins, what a spec's digest is, which stages change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.decide import (
    StageChange,
    Staged,
    canonical_spec,
    leave,
    merge,
    position,
    promote,
    promote_again,
    spec_digest,
)
from shared.errors import PermanentError, TemporaryError
from shared.pipeline import parse_pipeline

HEADER = "apiVersion: tuneloop.dev/v1\nkind: Pipeline\nmetadata: {name: p}\n"


def digest(spec: str) -> str:
    return spec_digest(parse_pipeline(HEADER + spec).spec)


def test_a_newer_fact_overwrites() -> None:
    changed = merge({"state": "running", "step": 10}, position("running", 2), {"state": "running", "step": 20},
                    position("running", 3))
    assert changed == {"step": 20}


def test_late_progress_does_not_overwrite_the_end() -> None:
    row = {"state": "completed", "step": 40, "loss": None}
    late = {"state": "running", "step": 30, "loss": 0.5}
    assert merge(row, position("completed", 9), late, position("running", 12)) == {"loss": 0.5}


def test_an_older_fact_fills_what_is_unknown() -> None:
    row = {"state": "running", "job": None, "attempt": 2}
    assert merge(row, position("running", 5), {"state": "running", "job": "train-x-1", "attempt": 1},
                 position("running", 1)) == {"job": "train-x-1"}


def test_what_a_fact_does_not_say_stays() -> None:
    assert merge({"loss": 0.25}, position("running", 1), {"loss": None}, position("running", 2)) == {}


@given(st.permutations([
    ("published", 1, {"state": "published", "uri": "s3://b/raw"}),
    ("prepared", 1, {"state": "prepared", "rows": 7}),
    ("published", 0, {"state": "published", "name": "again"}),
]))
def test_any_order_of_facts_ends_in_the_same_row(facts: list[tuple[str, int, dict[str, Any]]]) -> None:
    row: dict[str, Any] = {}
    at = position("", 0)
    for state, sequence, known in facts:
        incoming = position(state, sequence)
        row |= merge(row, at, known, incoming)
        at = max(at, incoming)
    assert row == {"state": "prepared", "rows": 7, "uri": "s3://b/raw", "name": "again"}


def test_the_digest_ignores_how_a_spec_is_written() -> None:
    plain = digest("spec: {baseModel: tiny, training: {epochs: 2}, rollout: {interval: 1m}}")
    assert plain == digest("spec:\n  rollout: {interval: 60s}\n  training:\n    epochs: 2.0\n    method: lora\n"
                           "  baseModel: tiny\n")
    assert plain.startswith("sha256:")


def test_the_digest_sees_every_value() -> None:
    assert digest("spec: {baseModel: tiny}") != digest("spec: {baseModel: tiny, training: {seed: 18}}")


def test_a_canonical_spec_is_a_spec() -> None:
    spec = parse_pipeline(HEADER + "spec: {baseModel: tiny, rollout: {deadline: 30d, loadDeadline: 1500ms}}").spec
    assert type(spec).model_validate_json(canonical_spec(spec)) == spec


def test_promotion_archives_the_previous_first() -> None:
    assert promote(Staged("p@2", "candidate"), production="p@1", named_previous=Staged("p@1", "production"),
                   reason="safe") == [
        StageChange("p@1", "archived", "production", "replaced by p@2"),
        StageChange("p@2", "production", "candidate", "safe"),
    ]


def test_a_promotion_waits_for_the_one_before_it() -> None:
    with pytest.raises(TemporaryError, match=r"p@2 replaced p@1, which is still candidate here"):
        promote(Staged("p@2", "candidate"), production=None, named_previous=Staged("p@1", "candidate"), reason="")


@pytest.mark.parametrize("stage", ["production", "archived"])
def test_a_promotion_that_is_known_changes_nothing(stage: Any) -> None:
    assert promote(Staged("p@1", stage), production="p@1", named_previous=None, reason="") == []


def test_a_version_that_was_rolled_back_never_goes_into_production() -> None:
    with pytest.raises(PermanentError, match="p@1 is rolled_back, so it cannot go into production"):
        promote(Staged("p@1", "rolled_back"), production=None, named_previous=None, reason="")


def test_a_rollback_of_a_candidate() -> None:
    assert leave(Staged("p@1", "candidate"), "rolled_back", "errors") == [
        StageChange("p@1", "rolled_back", "candidate", "errors")
    ]
    assert leave(Staged("p@1", "rolled_back"), "rolled_back", "errors") == []


def test_production_is_not_rolled_back_by_a_rollout_that_ended() -> None:
    with pytest.raises(PermanentError, match="p@1 is production"):
        leave(Staged("p@1", "production"), "rolled_back", "errors")


@pytest.mark.parametrize("left", ["archived", "rolled_back"])
def test_what_had_left_goes_into_production_again_by_an_undo_or_a_retry(left: Any) -> None:
    assert promote_again(Staged("p@1", left), production="p@2", named_previous=Staged("p@2", "production"),
                         reason="undo") == [
        StageChange("p@2", "archived", "production", "replaced by p@1"),
        StageChange("p@1", "production", left, "undo"),
    ]


def test_a_late_undo_does_not_take_production_from_its_successor() -> None:
    assert promote_again(Staged("p@1", "archived"), production="p@3", named_previous=Staged("p@2", "archived"),
                         reason="") == []
    assert promote_again(Staged("p@1", "production"), production="p@1", named_previous=None, reason="") == []


@pytest.mark.parametrize(("candidate", "previous"), [("candidate", "production"), ("archived", "candidate")])
def test_an_undo_waits_for_what_came_before_it(candidate: Any, previous: Any) -> None:
    with pytest.raises(TemporaryError):
        promote_again(Staged("p@1", candidate), production="p@2", named_previous=Staged("p@2", previous), reason="")
