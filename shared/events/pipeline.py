"""Facts about pipelines: the declarative specs that tell every service what to do."""

from shared.events.common import Digest, Name
from shared.events.envelope import Payload, Topic, event
from shared.pipeline import PipelineSpec


@event("pipeline.applied.v1", Topic.PIPELINES, producer="registry",
       consumers=("data_ingest", "drift", "evaluator", "rollout", "trainer"))
class PipelineApplied(Payload):
    """A pipeline was created or changed. `version` counts up from 1 and is never reused."""

    pipeline: Name
    version: int
    digest: Digest
    spec: PipelineSpec

    @property
    def route(self) -> str:
        """The model name that clients ask the gateway for."""
        return self.spec.rollout.route or self.pipeline

    def subject(self) -> str:
        return self.pipeline
