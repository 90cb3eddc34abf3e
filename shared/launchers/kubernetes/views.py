"""As much of Kubernetes' Jobs and pods as their outcome depends on. What is not named here is ignored."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class View(BaseModel):
    """Base: camelCase keys, unknown ones ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Metadata(View):
    name: str
    uid: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Condition(View):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class JobBody(View):
    suspend: bool = False
    active_deadline_seconds: int | None = None


class JobReport(View):
    conditions: list[Condition] = Field(default_factory=list)
    start_time: datetime | None = None


class Job(View):
    """A Job as the API tells it."""

    metadata: Metadata
    spec: JobBody = Field(default_factory=JobBody)
    status: JobReport = Field(default_factory=JobReport)

    def condition(self, type_: str) -> Condition | None:
        """The condition of a type, where it is true."""
        return _true(self.status.conditions, type_)


class Waiting(View):
    reason: str = ""
    message: str = ""


class Terminated(View):
    exit_code: int
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class ContainerState(View):
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerReport(View):
    state: ContainerState = Field(default_factory=ContainerState)


class PodReport(View):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = Field(default_factory=list)
    container_statuses: list[ContainerReport] = Field(default_factory=list)


class Pod(View):
    """A pod as the API tells it."""

    metadata: Metadata
    status: PodReport = Field(default_factory=PodReport)

    def condition(self, type_: str) -> Condition | None:
        """The condition of a type, where it is true."""
        return _true(self.status.conditions, type_)

    @property
    def waiting(self) -> Waiting | None:
        """Why its container does not run yet."""
        return next((c.state.waiting for c in self.status.container_statuses if c.state.waiting), None)

    @property
    def terminated(self) -> Terminated | None:
        """How its container ended."""
        return next((c.state.terminated for c in self.status.container_statuses if c.state.terminated), None)


class PodList(View):
    items: list[Pod]


def _true(conditions: list[Condition], type_: str) -> Condition | None:
    return next((found for found in conditions if found.type == type_ and found.status == "True"), None)
