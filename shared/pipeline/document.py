"""A whole pipeline document, and how one is read from YAML."""

from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from shared.errors import InvalidInputError
from shared.pipeline.capture import CaptureRules
from shared.pipeline.dataset import DatasetRules
from shared.pipeline.evaluation import EvaluationRules
from shared.pipeline.rollout import RolloutPolicy
from shared.pipeline.triggers import Triggers
from shared.policy_checks import policy_problems
from shared.preference_checks import pair_gate_problems
from shared.recipe import TrainingRecipe
from shared.recipe_checks import gate_problems, recipe_problems
from shared.spec_part import Slug, SpecPart
from shared.strict_yaml import load_yaml


class PipelineSpec(SpecPart):
    """The `spec` of a pipeline."""

    base_model: Slug = Field(description="name of the model that is adapted, as stored under base-models/ in S3")
    dataset: DatasetRules = Field(default_factory=DatasetRules, description="what a row must look like")
    training: TrainingRecipe = Field(default_factory=TrainingRecipe, description="how the adapter is trained")
    evaluation: EvaluationRules = Field(default_factory=EvaluationRules, description="what must hold before it is used")
    rollout: RolloutPolicy = Field(default_factory=RolloutPolicy, description="how it gets traffic")
    triggers: Triggers = Field(default_factory=Triggers, description="what starts a run")
    capture: CaptureRules | None = Field(default=None, description="absent: no request is kept")


class Metadata(SpecPart):
    """Who the pipeline is."""

    name: Slug = Field(description="unique in a registry; also the route, unless `spec.rollout.route` says otherwise")
    labels: dict[str, str] = Field(default_factory=dict, description="your own words; they change nothing")


class Pipeline(SpecPart):
    """A whole pipeline document."""

    api_version: Literal["tuneloop.dev/v1"] = Field(description="the version of this format")
    kind: Literal["Pipeline"] = Field(description="what the document is")
    metadata: Metadata = Field(description="who the pipeline is")
    spec: PipelineSpec = Field(description="what it does")

    @property
    def route(self) -> str:
        """The model name that clients ask the gateway for."""
        return self.spec.rollout.route or self.metadata.name


def parse_pipeline(text: str, *, source: str = "pipeline") -> Pipeline:
    """The pipeline in a YAML document.

    Raises:
        InvalidInputError: naming the line or the key that is wrong, every one of them.
    """
    try:
        document: Any = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInputError(f"{source}: not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    except (ValueError, RecursionError) as error:  # such as a date that does not exist
        raise InvalidInputError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError(f"{source}: expected a mapping with apiVersion, kind, metadata and spec")
    try:
        pipeline = Pipeline.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'document'}: {_explain(item)}" for item in error.errors()
        )
        raise InvalidInputError(f"{source}: {problems}") from error
    found = [f"spec.training.{path}: {problem}" for path, problem in recipe_problems(pipeline.spec.training)]
    gates = [(gate.metric, gate.task) for gate in pipeline.spec.evaluation.gates]
    found += [f"spec.evaluation.{path}: {problem}" for path, problem in gate_problems(pipeline.spec.training, gates)]
    found += [
        f"spec.evaluation.{path}: {problem}"
        for path, problem in pair_gate_problems(pipeline.spec.training, pipeline.spec.evaluation.gates)
    ]
    found += [f"spec.rollout.{path}: {problem}" for path, problem in policy_problems(pipeline.spec.rollout)]
    if found:
        raise InvalidInputError(f"{source}: {'; '.join(found)}")
    return pipeline


def _explain(item: Any) -> str:
    """One pydantic error in words that a person can act on."""
    if item["type"] == "extra_forbidden":
        return "unknown key; see docs/pipeline.md for the keys that exist"
    return str(item["msg"]).removeprefix("Value error, ")
