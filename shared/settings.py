"""Settings: environment variables with one prefix, ``TUNELOOP_``, checked when a service starts.

Each service derives its own class from `ServiceSettings`. An unknown ``TUNELOOP_`` variable is refused, so that a
typo in a deployment is an error at the start and not a default in production. `docs/settings.md` is generated.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

PREFIX = "TUNELOOP_"
# Read by tools around the services (the CLI, the supervisor, the tests), so present in their environment too.
FOREIGN = frozenset({"TUNELOOP_HOME", "TUNELOOP_STACK_ID", "TUNELOOP_TEST_KAFKA"}) | {
    f"TUNELOOP_{service}_URL"  # where the CLI finds the services
    for service in ("REGISTRY", "DATA_INGEST", "TRAINER", "EVALUATOR", "ROLLOUT", "DRIFT", "SERVING", "GATEWAY")
}


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class S3Settings(BaseSettings):
    """Where artifacts are. Credentials come from here, or from the AWS default chain where they are empty."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    s3_endpoint: str = Field(default="", description="base URL of the S3 service; empty means AWS")
    s3_bucket: str = Field(default="tuneloop", description="bucket for all artifacts")
    s3_region: str = Field(default="us-east-1", description="region name, also where the endpoint ignores it")
    s3_access_key: str = Field(default="", description="access key id; empty uses the AWS default chain")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="secret access key")


class ClusterSettings(BaseSettings):
    """Which Kubernetes cluster; derive from this besides `ServiceSettings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    kubeconfig: Path | None = Field(
        default=None, description="file that says where the cluster is; the pod's own service account by default"
    )


class ServiceSettings(S3Settings):
    """What every service needs to know."""

    service: ClassVar[str] = "service"

    database_url: str = Field(
        default="sqlite:///tuneloop.db", description="SQLAlchemy URL of this service's own database"
    )
    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="host:port list of the Kafka brokers")
    kafka_group_suffix: str = Field(
        default="", description="appended to the consumer group, for replicas that each need all facts"
    )
    kafka_session_timeout_ms: int = Field(
        default=10_000, ge=1000, description="how long until a silent consumer's partitions move on"
    )
    http_host: str = Field(default="127.0.0.1", description="address that the HTTP API listens on")
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="port of the HTTP API, /healthz, /readyz and /metrics"
    )
    instance: str = Field(default="", description="name of this replica in leases and metrics; host and pid by default")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: str = Field(
        default="json", pattern="^(json|console)$", description="json for machines, console for people"
    )
    otlp_endpoint: str = Field(default="", description="OTLP/HTTP collector for traces; empty turns export off")
    lease_ttl_seconds: float = Field(
        default=30.0, gt=0, description="a row's owner that is silent for this long loses it"
    )
    reconcile_interval_seconds: float = Field(default=1.0, gt=0, description="pause between looks at the world")

    @model_validator(mode="after")
    def _no_unknown_variables(self) -> "ServiceSettings":
        known = {(PREFIX + name).upper() for name in type(self).model_fields} | FOREIGN
        unknown = sorted(key for key in os.environ if key.startswith(PREFIX) and key not in known)
        if unknown and self.service != "service":
            raise ValueError(
                f"unknown settings for {self.service}: {', '.join(unknown)}; docs/settings.md lists the known ones"
            )
        return self


K = TypeVar("K", bound=ServiceSettings)


def load_settings(kind: type[K]) -> K:
    """A process's settings, from its environment.

    Raises:
        SystemExit: with code 2, after stderr says what is wrong with which setting.
    """
    try:
        return kind()
    except (ValidationError, SettingsError) as error:
        # What was wrong with a setting's JSON is in the cause.
        cause = f": {error.__cause__}" if isinstance(error, SettingsError) and error.__cause__ else ""
        sys.stderr.write(f"{kind.service}: cannot start, the settings are wrong: {error}{cause}\n")
        raise SystemExit(2) from None
