"""Facts from the adapter agents beside the model servers."""

from shared.events.common import Digest, Name
from shared.events.envelope import Payload, Topic, event


class ReplicaPayload(Payload):
    """What every fact from a replica says. `endpoint` is the model server's base URL as the gateway reaches it."""

    replica: str
    endpoint: str
    base_model: Name


@event("replica.ready.v1", Topic.ADAPTERS, producer="serving", consumers=("gateway", "rollout"))
class ReplicaReady(ReplicaPayload):
    """A model server answers and serves its base model. Said at each start and restart of the server."""

    def subject(self) -> str:
        return self.replica


@event("replica.alive.v1", Topic.ADAPTERS, producer="serving", consumers=("rollout",))
class ReplicaAlive(ReplicaPayload):
    """The model server answers still. Said every few minutes; what it has loaded stays as it was said."""

    def subject(self) -> str:
        return f"{self.replica}/alive"


class AdapterPayload(ReplicaPayload):
    """What every fact about one adapter on one replica says."""

    model_version: str
    digest: Digest

    def subject(self) -> str:
        return f"{self.replica}/{self.model_version}"


@event("adapter.loaded.v1", Topic.ADAPTERS, producer="serving", consumers=("gateway", "rollout"))
class AdapterLoaded(AdapterPayload):
    """The model server lists the adapter, from the verified files of this digest."""


@event("adapter.failed.v1", Topic.ADAPTERS, producer="serving", consumers=("rollout",))
class AdapterFailed(AdapterPayload):
    """The adapter cannot be served here. `permanent` means that trying again cannot help."""

    reason: str
    permanent: bool


@event("adapter.unloaded.v1", Topic.ADAPTERS, producer="serving", consumers=("gateway", "rollout"))
class AdapterUnloaded(AdapterPayload):
    """The model server no longer lists the adapter."""
