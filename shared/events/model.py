"""Facts about model versions."""

from typing import Literal

from shared.events.common import ModelRef, Name
from shared.events.envelope import Payload, Topic, event

Stage = Literal["candidate", "production", "archived", "rolled_back", "rejected"]


@event("model.registered.v1", Topic.MODELS, producer="registry", consumers=("drift", "rollout", "trainer"))
class ModelRegistered(Payload):
    """An adapter passed its gates and has a version. A rollout may begin."""

    model: ModelRef
    pipeline: Name
    pipeline_version: int
    run_id: str
    evaluation_id: str
    base_model_digest: str

    def subject(self) -> str:
        return self.model.model_version


@event("model.stage_changed.v1", Topic.MODELS, producer="registry", consumers=("evaluator", "trainer"))
class ModelStageChanged(Payload):
    """A model version entered a stage. At most one version of a pipeline is in production."""

    model: ModelRef
    pipeline: Name
    stage: Stage
    previous: Stage
    reason: str = ""

    def subject(self) -> str:
        return self.model.model_version
