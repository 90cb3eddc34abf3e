"""The chart's values.schema.json: from values.yaml's comments, and from the services' own settings classes.

So a misspelt value and a misspelt setting are refused by Helm before anything is changed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr
from pydantic.alias_generators import to_camel

from docs.chart_values import Entry
from docs.settings import SERVICES, settings_class
from shared.settings import ServiceSettings

# What the chart sets itself, from other values or because the pods are made for it.
MANAGED = frozenset({
    "http_host", "http_port", "database_url", "kafka_bootstrap", "kafka_session_timeout_ms", "kafka_group_suffix",
    "kafka_security_protocol", "kafka_ca_file", "kafka_cert_file", "kafka_key_file", "kafka_sasl_mechanism",
    "kafka_username", "kafka_password",
    "instance", "log_level", "log_format", "otlp_endpoint",
    "s3_endpoint", "s3_bucket", "s3_region", "s3_access_key", "s3_secret_key", "s3_ca_file",
    "work_dir", "state_dir", "api_keys_file", "prometheus_url", "cache_dir",
    "traffic_backend", "inference_pools", "rewrite_namespace", "embeddings_key",
    "notifications", "webhook_secrets_dir", "webhook_hosts",
    "launcher", "launcher_dir", "kubeconfig", "job_image", "job_image_pull_policy", "job_image_pull_secrets",
    "job_namespace", "job_owner", "job_service_account", "job_secrets", "job_secret_env", "job_s3_ca", "job_env",
    "job_cpu", "job_memory", "job_hardware", "job_queue", "job_priority_class", "job_cache_claim", "job_scratch_size",
    "job_grace_seconds", "job_keep_seconds",
    "replica", "engine_url", "advertised_endpoint", "base_model", "max_loras", "max_cpu_loras", "max_lora_rank",
    "wanted_file", "model_path", "served_model_name", "vllm_arguments", "fault_hooks",
})
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_KEPT = (
    "type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "additionalProperties",
    "items", "description",
)
_QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}

DEFINITIONS: dict[str, Any] = {
    "stringMap": {"type": "object", "additionalProperties": {"type": "string"}},
    "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "dnsLabel": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "quantity": _QUANTITY,
    "quantities": {"type": "object", "additionalProperties": {"anyOf": [_QUANTITY, {"type": "number", "minimum": 0}]}},
    "resources": {
        "type": "object", "additionalProperties": False,
        "properties": {"requests": {"$ref": "quantities"}, "limits": {"$ref": "quantities"}},
    },
    # Kubernetes' own objects are looked at as far as a mistake is likely; the rest is the API server's to refuse.
    "named": {
        "type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}},
    },
    "toleration": {
        "type": "object", "additionalProperties": False,
        "properties": {
            "key": {"type": "string"}, "operator": {"enum": ["Exists", "Equal", "Lt", "Gt"]},
            "value": {"type": "string"}, "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": {"type": "integer"},
        },
    },
    "spread": {
        "type": "object", "required": ["maxSkew", "topologyKey", "whenUnsatisfiable"],
        "properties": {
            "maxSkew": {"type": "integer", "minimum": 1}, "topologyKey": {"type": "string"},
            "whenUnsatisfiable": {"enum": ["DoNotSchedule", "ScheduleAnyway"]},
        },
    },
    "probe": {
        "type": "object", "additionalProperties": False,
        "properties": {
            name: {"type": "integer", "minimum": minimum} for name, minimum in (
                ("initialDelaySeconds", 0), ("periodSeconds", 1), ("timeoutSeconds", 1), ("successThreshold", 1),
                ("failureThreshold", 1), ("terminationGracePeriodSeconds", 1),
            )
        },
    },
    "hardware": {
        "type": "object", "additionalProperties": False,
        "properties": {
            "nodeSelector": {"$ref": "stringMap"}, "tolerations": {"type": "array", "items": {"$ref": "toleration"}},
            "gpuResource": {"type": "string"}, "runtimeClass": {"type": "string"},
        },
    },
}


def schema(entries: Iterable[Entry]) -> dict[str, Any]:
    """The JSON schema of the whole values."""
    by_key = {entry.path[0]: entry for entry in entries}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the tuneloop chart",
        "type": "object", "additionalProperties": False,
        # `global` is what Helm itself hands to charts that are part of another one.
        "properties": {"global": {"type": "object"}, **{key: _of(entry, by_key) for key, entry in by_key.items()}},
        "$defs": _linked(DEFINITIONS),
    }


def settings_schema(service: type[ServiceSettings]) -> dict[str, Any]:
    """What a service's `settings` may hold: its own, and what every service has, but for what the chart sets.

    Secrets neither: whoever sees the values would see them.
    """
    properties = service.model_json_schema()["properties"]
    return {
        "type": "object", "additionalProperties": False,
        "properties": {
            to_camel(name): _setting(properties[name]) for name, field in service.model_fields.items()
            if name not in MANAGED and field.annotation is not SecretStr
        },
    }


def _setting(told: Mapping[str, Any]) -> dict[str, Any]:
    options = [option for option in told.get("anyOf", []) if option.get("type") != "null"]
    both = {**(options[0] if options else {}), **told}
    return {key: both[key] for key in _KEPT if key in both}


def _of(entry: Entry, top: Mapping[str, Entry]) -> dict[str, Any]:
    if not entry.is_group:
        return {**_linked(_value(entry)), "description": entry.description}
    like = entry.schema.get("like")
    inherited = {child.path[-1]: {"$ref": f"#/properties/{like}/properties/{child.path[-1]}"}
                 for child in (top[like].children if like else [])}
    properties = {
        # A value of a service with nothing said of its kind is one of the defaults, with another default.
        name: _of(child, top) for child in entry.children if (name := child.path[-1]) not in inherited or child.schema
    }
    if like:
        own = {"settings": settings_schema(settings_class(SERVICES[entry.schema["settings"]]))}
        properties = {**inherited, **own, **properties}
    described = {"description": entry.description} if entry.description else {}
    return {"type": "object", "additionalProperties": False, **described, "properties": properties}


def _value(entry: Entry) -> dict[str, Any]:
    told = dict(entry.schema)
    if "$ref" in told:
        return told
    if "settings" in told:
        service = told["settings"]
        return settings_schema(ServiceSettings if service is True else settings_class(SERVICES[service]))
    if told.pop("open", False):
        return {"type": "object", **told}
    found: dict[str, Any] = {"type": _TYPES[type(entry.default)], **told}
    if found["type"] == "array" and "items" not in found:
        raise ValueError(f"values.yaml: say in @schema which items {entry.name} may have")
    if found["type"] == "object":
        if "properties" not in found and "additionalProperties" not in found:
            raise ValueError(f"values.yaml: say in @schema which properties {entry.name} may have, or open: true")
        found.setdefault("additionalProperties", False)
    return found


def _linked(told: Any) -> Any:
    """Short references (`$ref: port`) as JSON schema wants them."""
    if isinstance(told, Mapping):
        return {key: f"#/$defs/{item}" if key == "$ref" else _linked(item) for key, item in told.items()}
    return [_linked(item) for item in told] if isinstance(told, list) else told
