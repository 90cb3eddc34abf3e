"""Which processes make up a local stack, and with which settings each starts. Pure: values in, components out."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from services.cli.local.checks import Binaries
from services.cli.local.home import Credentials, Home
from services.cli.local.processes import STACK_ID, Component
from services.cli.local.seed import BUCKET, LOG_BUCKET

REPLICA = "local-0"
TINY = "tiny"
# Every service with an HTTP API, in the order in which a person thinks of the loop.
SERVICES = ("data_ingest", "trainer", "evaluator", "registry", "rollout", "drift", "gateway", "engine", "serving")
PORTS = {
    "gateway": 8700, "registry": 8701, "data_ingest": 8702, "trainer": 8703, "evaluator": 8704, "rollout": 8705,
    "engine": 8706, "serving": 8707, "vllm": 8708, "drift": 8709, "prometheus": 8790, "kafka": 8792, "s3": 8793,
    "s3_filer": 8794, "s3_volume": 8795, "s3_master": 8796,
    "s3_filer_grpc": 8797, "s3_volume_grpc": 8798, "s3_master_grpc": 8799, "s3_grpc": 8789,
}
MODULES = {
    "engine": "services.serving.engine", "vllm": "services.serving.vllm_server",
    "faults": "services.serving.fault_proxy",
}
# On a busy machine with two cores; half of it is Python's imports.
VLLM_READY_SECONDS = 600.0


@dataclass(frozen=True)
class Options:
    """What a person may choose about a local stack.

    Attributes:
        base_model: name under ``base-models/`` in S3.
        engine: the small one on transformers and PEFT, or vLLM.
        fault_hooks: lets tests make the engine fail on purpose; never for real use.
    """

    base_model: str
    engine: Literal["small", "vllm"] = "small"
    fault_hooks: bool = False
    scrape_seconds: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Everything that `components` need to know."""

    home: Home
    ports: Mapping[str, int]
    binaries: Binaries
    credentials: Credentials
    options: Options
    inherited: Mapping[str, str]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def components(self) -> dict[str, str]:
        """Tuneloop's own processes: the component's name, and the key of its module.

        vLLM has no hook for faults, so where they are wanted it stands behind a proxy that has one, and the proxy
        is what everybody but the agent knows as the engine.
        """
        own = {name: name for name in SERVICES}
        if self.options.engine == "vllm":
            own |= {"engine": "faults", "vllm": "vllm"} if self.options.fault_hooks else {"engine": "vllm"}
        return own

    @property
    def model_server(self) -> str:
        """The component that loads adapters."""
        return "vllm" if "vllm" in self.components else "engine"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.ports['kafka']}"

    def environment(self, **values: str) -> dict[str, str]:
        # All services share one machine: a thread that spins for another one takes the core that the other one needs.
        threads = {"OMP_WAIT_POLICY": "PASSIVE"}
        if self.options.base_model == TINY:
            threads["OMP_NUM_THREADS"] = "1"
        return {**self.inherited, **threads, STACK_ID: self.home.stack_id, **values}


def storage(plan: Plan) -> Component:
    """SeaweedFS as S3."""
    p = plan.ports
    argv = [
        plan.binaries.weed, "server", f"-dir={plan.home.data / 's3'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-s3", f"-s3.port={p['s3']}", f"-s3.config={s3_config_path(plan.home)}", f"-s3.port.grpc={p['s3_grpc']}",
        f"-filer.port={p['s3_filer']}", f"-filer.port.grpc={p['s3_filer_grpc']}",
        f"-volume.port={p['s3_volume']}", f"-volume.port.grpc={p['s3_volume_grpc']}",
        f"-master.port={p['s3_master']}", f"-master.port.grpc={p['s3_master_grpc']}",
        # Doors that nobody uses, at fixed ports: a second stack on the machine would find them taken.
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        # Small volumes: the default reserves far more disk than a local stack needs.
        "-volume.max=100", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false",
        # One server alone: nobody must notice its end, and it wins every election.
        "-volume.preStopSeconds=0", "-master.electionTimeout=500ms",
    ]
    return Component("s3", argv, plan.environment(), f"{plan.url('s3')}/healthz", url=plan.url("s3"))


def broker(plan: Plan) -> Component:
    """Tansu as the Kafka broker, with its log in S3."""
    listener = f"tcp://{plan.bootstrap}"
    argv = [
        plan.binaries.tansu, "broker", "--listener-url", listener, "--advertised-listener-url", listener,
        "--storage-engine", f"s3://{LOG_BUCKET}/",
    ]
    env = plan.environment(
        AWS_ENDPOINT=plan.url("s3"), AWS_ALLOW_HTTP="true", AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID=plan.credentials.access_key, AWS_SECRET_ACCESS_KEY=plan.credentials.secret_key,
    )
    return Component("kafka", argv, env, listener, url=plan.bootstrap)


def prometheus(plan: Plan) -> Component:
    """Prometheus, scraping every service."""
    argv = [
        plan.binaries.prometheus, f"--config.file={prometheus_config_path(plan.home)}",
        f"--storage.tsdb.path={plan.home.data / 'prometheus'}", "--storage.tsdb.retention.time=7d",
        f"--web.listen-address=127.0.0.1:{plan.ports['prometheus']}",
    ]
    url = plan.url("prometheus")
    return Component("prometheus", argv, plan.environment(), f"{url}/-/ready", url=url)


def prometheus_config(plan: Plan) -> str:
    """The scrape configuration; each service is a job of its own name."""
    interval = f"{int(plan.options.scrape_seconds * 1000)}ms"
    jobs = [
        {"job_name": service, "static_configs": [{"targets": [f"127.0.0.1:{plan.ports[service]}"]}]}
        for service in SERVICES
    ]
    return yaml.safe_dump({
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": jobs,
    }, sort_keys=False)


def services(plan: Plan) -> list[Component]:
    """All of tuneloop's own services."""
    return [_service(plan, name, kind) for name, kind in plan.components.items()]


def _service(plan: Plan, name: str, kind: str) -> Component:
    argv = [sys.executable, "-m", MODULES.get(kind, f"services.{kind}")]
    # vLLM, and so the proxy before it, has its own word for readiness.
    ready = "/health" if kind in ("vllm", "faults") else "/readyz"
    component = Component(
        name, argv, plan.environment(**service_settings(plan, name)), plan.url(name) + ready, url=plan.url(name)
    )
    return replace(component, ready_timeout=VLLM_READY_SECONDS) if kind in ("vllm", "faults") else component


def service_settings(plan: Plan, name: str) -> dict[str, str]:
    """The environment of one service."""
    base = plan.options.base_model
    cache = str(plan.home.data / "cache")
    common = {
        "TUNELOOP_HTTP_PORT": str(plan.ports[name]),
        "TUNELOOP_KAFKA_BOOTSTRAP": plan.bootstrap,
        # The broker lets a group wait half of this before its first assignment.
        "TUNELOOP_KAFKA_SESSION_TIMEOUT_MS": "6000",
        "TUNELOOP_DATABASE_URL": f"sqlite:///{plan.home.data / f'{name}.db'}",
        "TUNELOOP_S3_ENDPOINT": plan.url("s3"),
        "TUNELOOP_S3_BUCKET": BUCKET,
        "TUNELOOP_S3_ACCESS_KEY": plan.credentials.access_key,
        "TUNELOOP_S3_SECRET_KEY": plan.credentials.secret_key,
        "TUNELOOP_RECONCILE_INTERVAL_SECONDS": "0.5",
    }
    jobs = {"TUNELOOP_LAUNCHER_DIR": str(plan.home.run / name), "TUNELOOP_CACHE_DIR": cache}
    own: dict[str, dict[str, str]] = {
        "data_ingest": {"TUNELOOP_WORK_DIR": str(plan.home.data / "ingest")},
        "trainer": jobs,
        "evaluator": jobs,
        "rollout": {
            "TUNELOOP_PROMETHEUS_URL": plan.url("prometheus"),
            "TUNELOOP_WEBHOOK_SECRETS_DIR": str(plan.home.root / "webhook-secrets"),
        },
        # vLLM has embeddings only of models that are made for them.
        "drift": {"TUNELOOP_EMBEDDINGS_URL": plan.url("engine"), "TUNELOOP_EMBEDDINGS_MODEL": base}
                 if plan.options.engine == "small" else {},
        "gateway": {"TUNELOOP_STATE_DIR": str(plan.home.data / "gateway")},
        "engine": {
            "TUNELOOP_BASE_MODEL": base, "TUNELOOP_CACHE_DIR": cache,
            "TUNELOOP_FAULT_HOOKS": str(plan.options.fault_hooks).lower(),
        },
        "faults": {"TUNELOOP_ENGINE_URL": plan.url("vllm")},
        "vllm": {
            "TUNELOOP_BASE_MODEL": base, "TUNELOOP_CACHE_DIR": cache, "TUNELOOP_VLLM_PYTHON": plan.binaries.vllm_python,
            "TUNELOOP_ENFORCE_EAGER": "true", "TUNELOOP_KV_CACHE_GIB": "1",
            "TUNELOOP_WANTED_FILE": str(plan.home.data / "cache" / "serving" / f"{REPLICA}.wanted.json"),
        },
        "serving": {
            "TUNELOOP_REPLICA": REPLICA, "TUNELOOP_ENGINE_URL": plan.url(plan.model_server),
            "TUNELOOP_ADVERTISED_ENDPOINT": plan.url("engine"), "TUNELOOP_BASE_MODEL": base,
            "TUNELOOP_CACHE_DIR": cache, "TUNELOOP_MODEL_SERVER": plan.options.engine,
        },
        "registry": {"TUNELOOP_MODEL_SERVER": plan.options.engine},
    }
    return common | own.get(plan.components[name], {})


def s3_config_path(home: Home) -> Path:
    return home.root / "s3.json"


def prometheus_config_path(home: Home) -> Path:
    return home.root / "prometheus.yaml"


def s3_config(credentials: Credentials) -> dict[str, object]:
    """SeaweedFS's identities: one, which may do everything."""
    return {"identities": [{
        "name": "tuneloop",
        "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]}
