"""Every fact that the services tell each other. `docs/events.md` is the generated index.

To follow an event: its row in docs/events.md, its class here, and ``@on(ItsClass)`` in a service's handlers.py.
"""

from shared.events.common import ArtifactRef, DatasetRef, Digest, Distribution, ModelRef, Name, S3Uri
from shared.events.dataset import DatasetPrepared, DatasetPublished, DatasetRejected
from shared.events.drift import BucketShare, DriftDetected, DriftEvidence
from shared.events.envelope import (
    Event,
    MalformedEventError,
    Payload,
    Topic,
    UnknownEventTypeError,
    decode,
    encode,
    payload_types,
)
from shared.events.evaluation import (
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationRepeated,
    GateResult,
    Measurement,
    OutputCounts,
)
from shared.events.inference import FeedbackReceived, InferenceSampled, MetUnits, SampledMessage, UnitsMet
from shared.events.model import ModelRegistered, ModelStageChanged, Stage
from shared.events.pipeline import PipelineApplied
from shared.events.rollout import (
    CountedEvent,
    Phase,
    ReplicaForgotten,
    RolloutProgressed,
    RolloutPromoted,
    RolloutRolledBack,
    RouteCapture,
    RouteTarget,
    RouteUpdated,
)
from shared.events.serving import (
    AdapterFailed,
    AdapterLoaded,
    AdapterUnloaded,
    ReplicaAlive,
    ReplicaReady,
)
from shared.events.training import (
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRetried,
    TrainingStarted,
)

__all__ = [
    "AdapterFailed",
    "AdapterLoaded",
    "AdapterUnloaded",
    "ArtifactRef",
    "BucketShare",
    "CountedEvent",
    "DatasetPrepared",
    "DatasetPublished",
    "DatasetRef",
    "DatasetRejected",
    "Digest",
    "Distribution",
    "DriftDetected",
    "DriftEvidence",
    "EvaluationCompleted",
    "EvaluationFailed",
    "EvaluationRepeated",
    "Event",
    "FeedbackReceived",
    "GateResult",
    "InferenceSampled",
    "MalformedEventError",
    "Measurement",
    "MetUnits",
    "ModelRef",
    "ModelRegistered",
    "ModelStageChanged",
    "Name",
    "OutputCounts",
    "Payload",
    "Phase",
    "PipelineApplied",
    "ReplicaAlive",
    "ReplicaForgotten",
    "ReplicaReady",
    "RolloutProgressed",
    "RolloutPromoted",
    "RolloutRolledBack",
    "RouteCapture",
    "RouteTarget",
    "RouteUpdated",
    "S3Uri",
    "SampledMessage",
    "Stage",
    "Topic",
    "TrainingCompleted",
    "TrainingFailed",
    "TrainingProgressed",
    "TrainingRetried",
    "TrainingStarted",
    "UnitsMet",
    "UnknownEventTypeError",
    "decode",
    "encode",
    "payload_types",
]
