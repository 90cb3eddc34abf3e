"""Every example and every policy in the documentation is one that can be applied."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from shared.built_in_policies import BUILT_IN
from shared.docs.pipeline import ROOT
from shared.pipeline import ExpectedTraffic, Guardrail, RolloutPolicy, RolloutStep, ShadowStep, parse_pipeline
from shared.recipe import TrainingRecipe
from shared.recipe_checks import recipe_problems

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
HEADER = "apiVersion: tuneloop.dev/v1\nkind: Pipeline\nmetadata: {name: p}\nspec: {baseModel: tiny, rollout: {%s}}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_can_be_applied(path: Path) -> None:
    assert parse_pipeline(path.read_text(), source=path.name).spec.rollout.steps


def test_the_full_policy_has_every_key_and_every_guardrail() -> None:
    text = (ROOT / "examples" / "rollout-policy.yaml").read_text()
    policy = parse_pipeline(text).spec.rollout
    metrics = get_args(Guardrail.model_fields["metric"].annotation)
    assert [guardrail.metric for guardrail in policy.guardrails] == list(metrics)
    written = yaml.safe_load(text)["spec"]["rollout"]
    assert {key for guardrail in written["guardrails"] for key in guardrail} == \
        {field.alias for field in Guardrail.model_fields.values()}
    assert written["expectedTraffic"].keys() == {field.alias for field in ExpectedTraffic.model_fields.values()}
    # A built-in policy and an A/B test are other ways to say what the steps are.
    keys = {field.alias for name, field in RolloutPolicy.model_fields.items() if name not in ("policy", "ab_test")}
    assert set(written) == keys
    assert {key for step in written["steps"] for key in step} == {f.alias for f in RolloutStep.model_fields.values()}
    assert written["shadow"].keys() < {field.alias for field in ShadowStep.model_fields.values()}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_policy_is_what_the_page_says(name: str) -> None:
    page = (ROOT / "docs" / "rollouts.md").read_text()
    block = page.split(f"`policy: {name}`", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    assert yaml.safe_load(block) == BUILT_IN[name]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_policy_is_expanded_when_it_is_applied(name: str) -> None:
    policy = parse_pipeline(HEADER % f"policy: {name}").spec.rollout
    by_hand = RolloutPolicy.model_validate(BUILT_IN[name])
    assert policy == by_hand.model_copy(update={"policy": name})
    assert RolloutPolicy.model_validate(policy.model_dump(mode="json")) == policy


def test_a_key_beside_a_built_in_policy_replaces_its_own() -> None:
    policy = parse_pipeline(HEADER % "policy: staged, deadline: 2h, guardrails: [{metric: refusals}]").spec.rollout
    assert [step.weight for step in policy.steps] == [5, 10]
    assert policy.deadline.total_seconds() == 7200
    assert [guardrail.called for guardrail in policy.guardrails] == ["refusals"]
    assert RolloutPolicy.model_validate(policy.model_dump(mode="json")) == policy


def training_blocks() -> list[str]:
    """The YAML of the page on training: whole pipelines, and what stands under `training:` in one."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), flags=re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"\n(?=training:)", block)]
    return [part for part in parts if yaml.safe_load(part) is not None]  # a comment above the first is none


@pytest.mark.parametrize("text", training_blocks())
def test_a_training_in_the_documentation_can_be_applied(text: str) -> None:
    if "apiVersion" in text:
        parse_pipeline(text)
        return
    document = yaml.safe_load(text)
    recipe = TrainingRecipe.model_validate(document.get("spec", document)["training"])
    assert list(recipe_problems(recipe)) == []
