"""Settings: environment variables with one prefix, ``TUNELOOP_``, checked when a service starts.

Each service derives its own class from `ServiceSettings`. An unknown ``TUNELOOP_`` variable is refused, so that a
typo in a deployment is an error at the start and not a default in production. `docs/settings.md` is generated.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

PREFIX = "TUNELOOP_"
# Read by tools around the services (the CLI, the supervisor, the tests), so present in their environment too.
FOREIGN = frozenset({
    "TUNELOOP_HOME", "TUNELOOP_STACK_ID", "TUNELOOP_TEST_KAFKA", "TUNELOOP_TEST_KUBECONFIG", "TUNELOOP_GATEWAY_KEY",
    "TUNELOOP_TEACHER_KEY",
}) | {
    f"TUNELOOP_{service}_URL"  # where the CLI finds the services
    for service in ("REGISTRY", "DATA_INGEST", "TRAINER", "EVALUATOR", "ROLLOUT", "DRIFT", "SERVING", "GATEWAY")
}


def split_commas(value: object) -> object:
    """The parts of a text with commas between them; anything else as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(split_commas)]


class S3Settings(BaseSettings):
    """Where artifacts are. Credentials come from here, or from the AWS default chain where they are empty."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    s3_endpoint: str = Field(default="", description="base URL of the S3 service; empty means AWS")
    s3_bucket: str = Field(default="tuneloop", description="bucket for all artifacts")
    s3_region: str = Field(default="us-east-1", description="region name, also where the endpoint ignores it")
    s3_access_key: str = Field(default="", description="access key id; empty uses the AWS default chain")
    s3_secret_key: SecretStr = Field(default=SecretStr(""), description="secret access key")
    s3_ca_file: str = Field(
        default="", description="PEM file of who signed the S3 service's certificate; empty trusts the public ones"
    )


class ClusterSettings(BaseSettings):
    """Which Kubernetes cluster; derive from this besides `ServiceSettings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    kubeconfig: Path | None = Field(
        default=None, description="file that says where the cluster is; the pod's own service account by default"
    )


class KafkaSettings(BaseSettings):
    """Where Kafka is, and how its clients and it prove to each other who they are."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="host:port list of the Kafka brokers")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="SSL is TLS; SASL is a name and a password"
    )
    kafka_ca_file: str = Field(
        default="", description="PEM file of who signed the brokers' certificates; empty trusts the system's"
    )
    kafka_cert_file: str = Field(default="", description="PEM file of the client's certificate, where brokers want one")
    kafka_key_file: str = Field(default="", description="PEM file of that certificate's private key")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="how the password is proved; PLAIN sends it, so only with TLS"
    )
    kafka_username: str = Field(default="", description="name, with SASL")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="password, with SASL")

    @model_validator(mode="after")
    def _security_fits_the_protocol(self) -> Self:
        protocol = f"{PREFIX}KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        files = {"kafka_ca_file", "kafka_cert_file", "kafka_key_file"}
        login = {"kafka_username", "kafka_password"}
        given = {name for name in files | login if getattr(self, name) not in ("", SecretStr(""))}
        names = ", ".join(sorted(PREFIX + name.upper() for name in given))
        if given & files and not self.kafka_security_protocol.endswith("SSL"):
            raise ValueError(f"{names}: {protocol} uses no TLS; it must be SSL or SASL_SSL")
        if given & login and not self.kafka_security_protocol.startswith("SASL"):
            raise ValueError(f"{names}: {protocol} uses no login; it must be SASL_SSL or SASL_PLAINTEXT")
        if self.kafka_security_protocol.startswith("SASL") and not login <= given:
            raise ValueError(f"{protocol} needs {PREFIX}KAFKA_USERNAME and {PREFIX}KAFKA_PASSWORD")
        if ("kafka_cert_file" in given) != ("kafka_key_file" in given):
            raise ValueError(f"{names}: a certificate and its key are given together or not at all")
        return self


class ServiceSettings(KafkaSettings, S3Settings):
    """What every service needs to know."""

    service: ClassVar[str] = "service"

    database_url: str = Field(
        default="sqlite:///tuneloop.db", description="SQLAlchemy URL of this service's own database"
    )
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
