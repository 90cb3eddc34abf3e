"""What a pipeline may say about drift and schedules, and what it is told where it is wrong."""

import pytest

from shared.errors import InvalidInputError
from shared.pipeline import parse_pipeline

HEAD = "apiVersion: tuneloop.dev/v1\nkind: Pipeline\nmetadata: {name: a}\nspec: {baseModel: tiny, triggers: {"


def test_the_defaults_watch_and_change_nothing() -> None:
    triggers = parse_pipeline(HEAD + "}}").spec.triggers
    assert (triggers.on_drift.action, triggers.on_drift.features, triggers.reevaluate) == ("notify", None, None)


def test_what_is_said_is_taken() -> None:
    text = "onDrift: {action: retrain, features: [language], cooldown: 6h}, reevaluate: {cron: '0 3 * * 1'}"
    triggers = parse_pipeline(HEAD + text + "}}").spec.triggers
    assert (triggers.on_drift.action, triggers.on_drift.features) == ("retrain", ["language"])
    assert triggers.on_drift.cooldown.total_seconds() == 21_600
    assert triggers.reevaluate is not None
    assert triggers.reevaluate.cron == "0 3 * * 1"


@pytest.mark.parametrize(("text", "told"), [
    ("onDrift: {action: rollback}", "spec.triggers.onDrift.action"),
    ("onDrift: {features: [colour]}", "spec.triggers.onDrift.features.0"),
    ("reevaluate: {cron: '0 3 * *'}", "does not have five fields"),
    ("reevaluate: {cron: '0 25 * * *'}", "is not a cron expression"),
    ("reevaluate: {cron: '0 3 31 2 *'}", "spec.triggers.reevaluate.cron"),
    ("reevaluate: {cron: 5}", "spec.triggers.reevaluate.cron"),
])
def test_a_mistake_is_named_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told.replace(".", r"\.")):
        parse_pipeline(HEAD + text + "}}")
