"""The pipeline spec: what a person writes to say how an adapter is kept fresh.

    apiVersion: tuneloop.dev/v1
    kind: Pipeline
    metadata: {name: support-intents}
    spec: {baseModel: smollm2-135m-instruct, ...}

Keys are camelCase as in Kubernetes manifests; unknown keys are refused, so a typo is an error and not a default.
"""

from shared.pipeline.counted import AbTest, Counted, Guardrail, Objective
from shared.pipeline.dataset import DatasetRules
from shared.pipeline.document import Pipeline, PipelineSpec, parse_pipeline
from shared.pipeline.evaluation import EvaluationRules, Gate
from shared.pipeline.rollout import ExpectedTraffic, RollbackWindow, RolloutPolicy, RolloutStep, ShadowStep
from shared.pipeline.triggers import OnDrift

__all__ = [
    "AbTest", "Counted", "DatasetRules", "EvaluationRules", "ExpectedTraffic", "Gate", "Guardrail", "Objective",
    "OnDrift", "Pipeline", "PipelineSpec", "RollbackWindow", "RolloutPolicy", "RolloutStep", "ShadowStep",
    "parse_pipeline",
]
