"""The environment of each process is one that its own settings class takes, and means what the values say."""

import importlib
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from docs.chart_schema import MANAGED, settings_schema
from docs.settings import SERVICES, settings_class
from services.drift.samples import GROUP
from services.serving.vllm_server.arguments import command
from shared.events import Topic
from shared.settings import PREFIX, ServiceSettings
from tests.support.chart import CHART, VARIANTS, pods, render, values_of, variant

MODULES = {module.removesuffix(".settings"): settings_class(module) for module in SERVICES.values()}
# What Kubernetes would put in place of a reference.
POD = {"metadata.name": "demo-serving-0", "metadata.uid": "6a1e9c0e-8f43-4b51-9a55-0d6c2b3f4a5d"}
SECRETS = {
    "access-key": "AK", "secret-key": "SK", "password": "PW", "api-key": "EK",
    **{key: f"postgresql://user:word@db/{key}" for key in
       ("data-ingest", "trainer", "evaluator", "registry", "rollout", "drift")},
}
PROCESSES = [
    pytest.param(name, container, id=f"{name}: {container['command'][-1]}")
    for name in VARIANTS for pod in pods(variant(name)) for container in pod.containers
    if container.get("ports")
]


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The variables of a container as its process sees them."""
    found: dict[str, str] = {}
    for item in container["env"]:
        if source := item.get("valueFrom"):
            value = SECRETS[source["secretKeyRef"]["key"]] if "secretKeyRef" in source else \
                POD[source["fieldRef"]["fieldPath"]]
        else:
            value = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], item["value"])
        found[item["name"]] = value
    return found


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Become the process of a container, as far as its environment goes."""

    def become(container: dict[str, Any], **more: str) -> type[ServiceSettings]:
        for key in list(os.environ):
            if key.startswith(PREFIX):
                monkeypatch.delenv(key)
        for key, value in {**environment(container), **more}.items():
            monkeypatch.setenv(key, value)
        return MODULES[container["command"][2]]

    return become


@pytest.mark.parametrize(("name", "container"), PROCESSES)
def test_the_service_starts_with_its_environment(name: str, container: dict[str, Any], enter: Any) -> None:
    kind = enter(container)
    settings = kind()
    assert settings.http_host == "0.0.0.0"  # noqa: S104 - in a pod
    if "kafka_bootstrap" in settings.model_fields_set:
        assert ":9092" in settings.kafka_bootstrap
    told = {name.removeprefix(PREFIX).lower() for name in environment(container) if name.startswith(PREFIX)}
    assert told <= settings.model_fields_set


def test_maps_and_lists_among_the_settings_arrive_as_such(enter: Any) -> None:
    told = {"concurrentRuns": {"a100": 4, "default": 1}, "hourlyPrices": {"a100": 2.5}, "trackers": ["mlflow", "wandb"]}
    objects = tuple(render(values_of({"trainer": {"settings": told}})))
    [container] = [
        container for pod in pods(objects) for container in pod.containers
        if container.get("command", [])[-1:] == ["services.trainer"]
    ]
    settings: Any = enter(container)()
    assert (settings.concurrent_runs, settings.hourly_prices) == (told["concurrentRuns"], told["hourlyPrices"])
    assert settings.trackers == told["trackers"]


@pytest.mark.parametrize(("name", "container"), PROCESSES)
def test_it_refuses_a_variable_that_it_does_not_know(name: str, container: dict[str, Any], enter: Any) -> None:
    kind = enter(container, TUNELOOP_HTPP_PORT="80")
    with pytest.raises(ValidationError, match="TUNELOOP_HTPP_PORT"):
        kind()


def processes(objects: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for pod in pods(objects):
        for container in pod.containers:
            yield container["command"][2] if len(container["command"]) > 2 else "", container


def process(name: str, module: str) -> dict[str, Any]:
    (found,) = [c for m, c in processes(variant(name)) if m == module and c.get("ports")]
    return found


def test_values_arrive_as_settings(enter: Any) -> None:
    trainer = enter(process("everything", "services.trainer"))()
    assert (trainer.max_concurrent_runs, trainer.reconcile_interval_seconds) == (4, 2)
    assert trainer.launcher == "kubernetes"
    assert trainer.job_image == "registry.example.com/ml/tuneloop/trainer:v9"
    assert trainer.job_image_pull_secrets == ["pull"]
    assert trainer.job_hardware["a100"].node_selector == {"gpu": "a100"}
    assert trainer.job_env["NCCL_DEBUG"] == "INFO"
    assert (trainer.job_queue, trainer.job_cache_claim, trainer.job_priority_class) == ("training", "models", "low")
    assert (trainer.job_owner, trainer.job_service_account) == ("loop", "loop-job")
    ingest = enter(process("everything", "services.data_ingest"))()
    assert ingest.max_upload_bytes == 1024**3, "large numbers are not written as 1e+09"
    gateway = enter(process("everything", "services.gateway"))()
    assert str(gateway.api_keys_file) == "/etc/tuneloop/api-keys/api-keys.yaml"
    assert gateway.max_in_flight == 2000
    rollout = enter(process("everything", "services.rollout"))()
    assert str(rollout.webhook_secrets_dir) == "/etc/tuneloop/webhook-secrets"
    assert rollout.webhook_hosts == ["*.example.com", "ci.ci"]
    [told] = rollout.notifications
    assert (told.name, told.url_from, told.events) == ("ops", "slack", ["promoted"])


def test_jobs_get_the_credentials_of_their_service_from_the_same_secret(enter: Any) -> None:
    trainer = enter(process("defaults", "services.trainer"))()
    assert trainer.job_secret_env == {
        "TUNELOOP_S3_ACCESS_KEY": "tuneloop-s3/access-key", "TUNELOOP_S3_SECRET_KEY": "tuneloop-s3/secret-key",
    }
    assert (trainer.s3_access_key, trainer.database_url) == ("AK", "postgresql://user:word@db/trainer")
    assert enter(process("everything", "services.trainer"))().job_secret_env == {}


def test_the_api_of_embeddings_gets_its_key_from_a_secret(enter: Any) -> None:
    drift = enter(process("everything", "services.drift"))()
    assert drift.embeddings_key.get_secret_value() == "EK"
    assert not enter(process("defaults", "services.drift"))().embeddings_key.get_secret_value()


def test_every_setting_that_is_a_secret_is_taken_from_one_somewhere() -> None:
    """The chart names a secret for each; `extraEnv` is for what it does not know."""
    secret = {name for cls in MODULES.values() for name, field in cls.model_fields.items()
              if field.annotation is SecretStr}
    taken = {item["name"].removeprefix(PREFIX).lower() for name in VARIANTS for pod in pods(variant(name))
             for container in pod.containers for item in container.get("env", [])
             if "secretKeyRef" in item.get("valueFrom", {})}
    assert {"embeddings_key", "kafka_password", "s3_secret_key"} <= secret <= taken


def test_jobs_get_what_trackers_want(enter: Any) -> None:
    trainer = enter(process("everything", "services.trainer"))()
    assert trainer.trackers == ["mlflow", "wandb"]
    assert trainer.job_env["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert trainer.job_secrets == ["wandb"]


@pytest.mark.parametrize("name", VARIANTS)
def test_agent_and_model_server_agree(name: str, enter: Any) -> None:
    agent = enter(process(name, "services.serving"))()
    engine_module = "services.serving.engine" if name == "small" else "services.serving.vllm_server"
    engine = enter(process(name, engine_module))()
    assert agent.base_model == engine.base_model
    assert agent.cache_dir == engine.cache_dir
    assert agent.engine_url == f"http://127.0.0.1:{engine.http_port}"
    assert agent.max_lora_rank == engine.max_lora_rank
    assert agent.replica == "demo-serving-0"
    assert agent.kafka_group_suffix.endswith(POD["metadata.uid"]), "a new pod reads the routes from their beginning"
    if name == "small":
        assert engine.max_loras == agent.max_cpu_loras
    else:
        assert (engine.max_loras, engine.max_cpu_loras) == (agent.max_loras, agent.max_cpu_loras)
        assert engine.wanted_file == agent.wanted_file


def test_vllm_is_called_with_the_arguments_of_the_values(enter: Any, tmp_path: Any) -> None:
    vllm = enter(process("everything", "services.serving.vllm_server"))()
    argv = command(vllm, tmp_path, {})
    assert argv[-4:] == ["--shutdown-timeout", "60", "--chat-template", "/ca/with space.jinja"]
    assert "--enforce-eager" in argv


@pytest.mark.parametrize("cls", MODULES.values(), ids=MODULES)
def test_every_setting_has_one_name_in_the_values(cls: type[ServiceSettings]) -> None:
    """Helm turns maxUploadBytes into MAX_UPLOAD_BYTES; no name may be lost on that way."""
    for name in cls.model_fields:
        if name not in MANAGED:
            assert re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", to_camel(name)).lower() == name


def test_what_the_chart_sets_itself_cannot_be_set_a_second_time() -> None:
    values = [settings_schema(cls)["properties"] for cls in MODULES.values()]
    offered = {name for properties in values for name in properties}
    assert not offered & {to_camel(name) for name in MANAGED}
    for name in VARIANTS:
        told = {item["name"] for _, container in processes(variant(name)) for item in container.get("env", [])}
        fixed = {key.removeprefix(PREFIX).lower() for key in told if key.startswith(PREFIX)}
        from_values = {"reconcile_interval_seconds", "max_upload_bytes", "max_concurrent_runs", "max_in_flight",
                       "evaluation_timeout_seconds", "job_start_seconds", "enforce_eager", "max_model_len", "dtype",
                       "load_stagger_seconds", "embeddings_url", "embeddings_model", "rewrite_check_seconds",
                       "trackers"}
        assert fixed - from_values <= MANAGED


def test_no_setting_that_is_a_secret_can_be_given_as_a_value() -> None:
    secret = {to_camel(name) for cls in MODULES.values() for name, field in cls.model_fields.items()
              if field.annotation is SecretStr}
    assert "s3SecretKey" in secret
    assert not secret & {name for cls in MODULES.values() for name in settings_schema(cls)["properties"]}


def test_consumer_groups_and_topics_are_those_of_the_code() -> None:
    """KEDA looks at them, and would see no lag in a group that is not there."""
    objects = render({"defaults": {"keda": {"enabled": True}}})
    scaled = {item["metadata"]["name"].removeprefix("demo-tuneloop-"): item["spec"]["triggers"]
              for item in objects if item["kind"] == "ScaledObject"}
    assert set(scaled) == {"data-ingest", "trainer", "evaluator", "registry", "rollout", "drift"}
    for name, triggers in scaled.items():
        handlers = importlib.import_module(f"services.{name.replace('-', '_')}.handlers").handlers
        own = [(f"tuneloop-{handlers.consumer}", topic) for topic in sorted(handlers.topics)]
        others = [(GROUP, Topic.SAMPLES.value)] if name == "drift" else []
        looked_at = [(trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) for trigger in triggers]
        assert looked_at == own + others


def test_keda_logs_in_as_the_pods_do() -> None:
    objects = {(item["kind"], item["metadata"]["name"]): item for item in variant("everything")}
    told = {item["name"]: item for item in process("everything", "services.drift")["env"]}
    triggers = objects["ScaledObject", "loop-drift"]["spec"]["triggers"]
    for trigger in triggers:
        assert (trigger["metadata"]["tls"], trigger["metadata"]["sasl"]) == ("enable", "scram_sha512")
        login = objects["TriggerAuthentication", trigger["authenticationRef"]["name"]]["spec"]
    assert {item["parameter"]: item["name"] in told for item in login["env"]} == {"username": True, "password": True}
    files = {item["parameter"]: (item["name"], item["key"]) for item in login["secretTargetRef"]}
    assert files == {"ca": ("cluster-ca", "ca.crt"), "cert": ("kafka-user", "user.crt"),
                     "key": ("kafka-user", "user.key")}
    assert not any(kind == "TriggerAuthentication" for kind in (item["kind"] for item in variant("production")))


@pytest.mark.parametrize("module", ["services.gateway", "services.drift", "services.serving"])
def test_kafka_is_reached_by_tls_and_a_login(module: str, enter: Any) -> None:
    container = process("everything", module)
    settings = enter(container)()
    assert (settings.kafka_security_protocol, settings.kafka_sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (settings.kafka_username, settings.kafka_password.get_secret_value()) == ("tuneloop", "PW")
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "kafka-tls"]
    (pod,) = [pod for pod in pods(variant("everything")) if container in pod.containers]
    (volume,) = [volume for volume in pod.spec["volumes"] if volume["name"] == "kafka-tls"]
    there = {f"{mount['mountPath']}/{item['path']}" for source in volume["projected"]["sources"]
             for item in source["secret"]["items"]}
    assert {settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file} == there


@pytest.mark.parametrize("module", [
    "services.data_ingest", "services.trainer", "services.serving", "services.serving.vllm_server",
])
def test_s3_is_believed_by_an_authority_of_one_s_own(module: str, enter: Any) -> None:
    container = process("everything", module)
    settings = enter(container)()
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "s3-ca"]
    (pod,) = [pod for pod in pods(variant("everything")) if container in pod.containers]
    (volume,) = [volume for volume in pod.spec["volumes"] if volume["name"] == "s3-ca"]
    (item,) = volume["secret"]["items"]
    assert (volume["secret"]["secretName"], item["key"]) == ("company-ca", "tls.crt")
    assert settings.s3_ca_file == f"{mount['mountPath']}/{item['path']}"
    if module == "services.trainer":
        assert settings.job_s3_ca == "company-ca/tls.crt"


def test_who_uses_s3_in_the_code_has_it_in_the_chart() -> None:
    root = CHART.parents[1] / "services"
    for _, container in processes(variant("defaults")):
        module = container["command"][2] if len(container["command"]) > 2 else ""
        folder = root / module.rpartition(".")[2]
        if not (folder / "__main__.py").exists() or "--migrate" in container["command"]:
            continue
        uses = any(re.search(r"runtime\.store|connect_store", path.read_text()) for path in folder.glob("*.py"))
        told = {item["name"] for item in container["env"]}
        assert ("TUNELOOP_S3_BUCKET" in told) is uses, module


@pytest.mark.parametrize("name", VARIANTS)
def test_each_database_is_migrated_with_the_service_s_own_url(name: str) -> None:
    urls: dict[str, dict[bool, Any]] = {}
    for pod in pods(variant(name)):
        for container in pod.containers:
            for item in container.get("env", []):
                if item["name"] == "TUNELOOP_DATABASE_URL" and "valueFrom" in item:
                    migrates = "--migrate" in container["command"]
                    urls.setdefault(container["command"][2], {})[migrates] = item["valueFrom"]
    assert len(urls) == 6
    for module, both in urls.items():
        assert both[True] == both[False], module
