"""Where and how jobs run on Kubernetes. Secrets are named here, never given."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import SettingsConfigDict

from shared.settings import PREFIX, ClusterSettings, CommaList

Quantity = r"^[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_SECRET_KEY = re.compile(r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9._-]+$")


class HardwareClass(BaseModel):
    """Nodes of one kind, and how a job gets onto them; keys are camelCase, as in Kubernetes manifests.

    Attributes:
        node_selector: labels that a node must have.
        tolerations: as in a pod's spec.
        gpu_resource: what the device plugin calls one GPU.
        runtime_class: the pod's runtimeClassName; empty for the cluster's default.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    gpu_resource: str = "nvidia.com/gpu"
    runtime_class: str = ""


class KubernetesSettings(ClusterSettings):
    """What `KubernetesLauncher` needs to know."""

    # Whoever writes a secret where its name belongs must not find it in the log.
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)

    job_image: str = Field(default="", description="image that jobs run (kubernetes; required there)")
    job_namespace: str = Field(default="", description="namespace of the Jobs; the service's own by default")
    job_owner: str = Field(
        default="tuneloop", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
        description="name of this installation, as a label; a Job of another owner is never touched",
    )
    job_service_account: str = Field(
        default="default", description="service account of the jobs' pods; it needs no rights"
    )
    job_image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="of the jobs' pods"
    )
    job_image_pull_secrets: CommaList = Field(
        default_factory=list, description="names of existing Secrets, with commas between them"
    )
    job_secrets: CommaList = Field(
        default_factory=list,
        description="names of existing Secrets, with commas between them, whose keys become the job's environment",
    )
    job_secret_env: dict[str, str] = Field(
        default_factory=dict,
        description='single variables from existing Secrets, as JSON: {"TUNELOOP_S3_ACCESS_KEY": "secret-name/key"}',
    )
    job_s3_ca: str = Field(
        default="", pattern=f"^$|{_SECRET_KEY.pattern}",
        description="authority of the S3 service's certificate: an existing Secret and its key, as in secret-name/key",
    )
    job_env: dict[str, str] = Field(
        default_factory=dict, description="more environment for jobs, as JSON; not for secrets"
    )
    job_cpu: float = Field(default=2.0, gt=0, description="cores that a job asks for where its pipeline does not say")
    job_memory: str = Field(
        default="8Gi", pattern=Quantity, description="memory that a job may use where its pipeline does not say"
    )
    job_hardware: dict[str, HardwareClass] = Field(
        default_factory=dict,
        description='classes of nodes, as JSON: {"a100": {"nodeSelector": {...}, "tolerations": [...]}}; `default` is '
        "for jobs whose pipeline names none",
    )
    job_queue: str = Field(default="", description="Kueue's LocalQueue; Jobs are made suspended and wait for it")
    job_priority_class: str = Field(default="", description="priorityClassName of the jobs' pods")
    job_cache_claim: str = Field(
        default="", description="PersistentVolumeClaim that keeps base models between jobs; none: each fetches its own"
    )
    job_scratch_size: str = Field(
        default="20Gi", pattern=Quantity, description="most that a job may write to its node's disk"
    )
    job_grace_seconds: int = Field(
        default=120, ge=1, description="from SIGTERM to SIGKILL: time to finish a step and to store a checkpoint"
    )
    job_keep_seconds: int = Field(default=86_400, ge=60, description="how long an ended Job and its log are kept")
    job_start_seconds: float = Field(
        default=900.0, gt=0, description="a pod that has a node and does not start for this long has failed"
    )
    job_unschedulable_seconds: float = Field(
        default=3600.0, gt=0, description="a pod for which no node is found for this long has failed"
    )

    @field_validator("job_secret_env")
    @classmethod
    def _names_only(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [name for name, source in value.items() if not _SECRET_KEY.match(source)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: write the name of a Secret and its key, as in secret-name/key")
        return value
