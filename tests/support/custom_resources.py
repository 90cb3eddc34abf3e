"""The custom resources that the chart makes, as closed as can be: an unknown field is an error.

No package has their operators' own schemas in a form that Python reads. So these are the fields that the chart uses, as
the operators' API references have them: monitoring.coreos.com/v1, keda.sh/v1alpha1 with its Kafka scaler,
gateway.networking.k8s.io/v1. The validators of npm's `@kubernetes-models/…` packages accept what these accept.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h|d|w|y))+$|^0$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: Name
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)


class Selector(Strict):
    matchLabels: dict[str, str]  # noqa: N815 - Kubernetes' name


class Relabeling(Strict):
    targetLabel: str  # noqa: N815
    replacement: str


class Endpoint(Strict):
    port: str
    path: str
    interval: Duration
    scrapeTimeout: Duration  # noqa: N815
    relabelings: list[Relabeling]


class ServiceMonitorSpec(Strict):
    selector: Selector
    endpoints: list[Endpoint]


class ServiceMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]  # noqa: N815
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: ServiceMonitorSpec


class PodMonitorSpec(Strict):
    selector: Selector
    podMetricsEndpoints: list[Endpoint]  # noqa: N815


class PodMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]  # noqa: N815
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec


class Rule(Strict):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    alert: str | None = None
    record: str | None = None
    expr: str | int
    for_: Duration | None = Field(default=None, alias="for")
    keep_firing_for: Duration | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class RuleGroup(Strict):
    name: str
    interval: Duration | None = None
    limit: int | None = None
    rules: list[Rule]


class PrometheusRuleSpec(Strict):
    groups: list[RuleGroup]


class PrometheusRule(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]  # noqa: N815
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: PrometheusRuleSpec


class ScaleTarget(Strict):
    apiVersion: Literal["apps/v1"]  # noqa: N815
    kind: Literal["Deployment", "StatefulSet"]
    name: Name


class KafkaScaler(Strict):
    """KEDA takes strings only, also for numbers."""

    bootstrapServers: str  # noqa: N815
    consumerGroup: str  # noqa: N815
    topic: str
    lagThreshold: Annotated[str, Field(pattern="^[1-9][0-9]*$")]  # noqa: N815
    offsetResetPolicy: Literal["earliest", "latest"]  # noqa: N815
    tls: Literal["enable", "disable"] = "disable"
    sasl: Literal["none", "plaintext", "scram_sha256", "scram_sha512", "oauthbearer", "gssapi"] = "none"


class AuthenticationRef(Strict):
    name: Name


class Trigger(Strict):
    type: Literal["kafka"]
    metadata: KafkaScaler
    authenticationRef: AuthenticationRef | None = None  # noqa: N815


class FromEnvironment(Strict):
    parameter: Literal["username", "password"]
    name: str


class FromSecret(Strict):
    parameter: Literal["ca", "cert", "key"]
    name: Name
    key: str


class TriggerAuthenticationSpec(Strict):
    env: list[FromEnvironment] = Field(default_factory=list)
    secretTargetRef: list[FromSecret] = Field(default_factory=list)  # noqa: N815


class TriggerAuthentication(Strict):
    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["TriggerAuthentication"]
    metadata: Metadata
    spec: TriggerAuthenticationSpec


class ScaledObjectSpec(Strict):
    scaleTargetRef: ScaleTarget  # noqa: N815
    minReplicaCount: Annotated[int, Field(ge=0)]  # noqa: N815
    maxReplicaCount: Annotated[int, Field(ge=1)]  # noqa: N815
    pollingInterval: int  # noqa: N815
    cooldownPeriod: int  # noqa: N815
    triggers: Annotated[list[Trigger], Field(min_length=1)]


class ScaledObject(Strict):
    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class ParentRef(Strict):
    name: str
    namespace: str | None = None
    sectionName: str | None = None  # noqa: N815
    port: int | None = None


class PathMatch(Strict):
    type: Literal["Exact", "PathPrefix", "RegularExpression"]
    value: str


class RouteMatch(Strict):
    path: PathMatch


class BackendRef(Strict):
    name: Name
    port: int


class RouteTimeouts(Strict):
    request: Duration | None = None
    backendRequest: Duration | None = None  # noqa: N815


class RouteRule(Strict):
    matches: list[RouteMatch]
    timeouts: RouteTimeouts | None = None
    backendRefs: list[BackendRef]  # noqa: N815


class HttpRouteSpec(Strict):
    parentRefs: Annotated[list[ParentRef], Field(min_length=1)]  # noqa: N815
    hostnames: list[str] = Field(default_factory=list)
    rules: list[RouteRule]


class HttpRoute(Strict):
    apiVersion: Literal["gateway.networking.k8s.io/v1"]  # noqa: N815
    kind: Literal["HTTPRoute"]
    metadata: Metadata
    spec: HttpRouteSpec


CUSTOM = frozenset({"monitoring.coreos.com/v1", "keda.sh/v1alpha1", "gateway.networking.k8s.io/v1"})
_KINDS: TypeAdapter[Any] = TypeAdapter(Annotated[
    ServiceMonitor | PodMonitor | PrometheusRule | ScaledObject | TriggerAuthentication | HttpRoute,
    Field(discriminator="kind"),
])


def check_custom(item: dict[str, Any]) -> None:
    """Raises ValidationError where a custom resource has a field that is unknown, missing or of another type."""
    _KINDS.validate_python(item)
