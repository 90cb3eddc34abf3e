"""The chart's dashboards as tests see them, and the series that there are for them to ask for."""

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from services.gateway.capture import CaptureMetrics
from services.gateway.doorkeeper import KeyMetrics
from services.gateway.metrics import GatewayMetrics
from services.gateway.sender import EventSender
from services.gateway.unit_teller import UnitTeller
from shared.messaging.broker import BrokerUnavailableError, RecordSink
from tests.support.promql import Expression

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts" / "tuneloop" / "dashboards"
_KINDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
_NOT_OF_THE_GATEWAY = (
    "services.data_ingest.metrics", "services.trainer.metrics", "services.evaluator.metrics",
    "services.registry.metrics",
    "services.rollout.metrics", "services.drift.metrics", "services.serving.metrics", "services.serving.engine.metrics",
    "shared.messaging.metrics", "shared.reconcile",
)


def load() -> dict[str, dict[str, Any]]:
    """The dashboards of the chart by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels and rows, those in closed rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions(dashboard: Mapping[str, Any]) -> Iterator[Expression]:
    """All that a dashboard asks, but for the values of its variables."""
    name = dashboard["uid"]
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield Expression(f"{name}: {panel['title']} {target['refId']}", target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        yield Expression(f"{name}: annotation {annotation['name']}", annotation["expr"])


def exposed() -> set[str]:
    """Names of all series that tuneloop's processes may have, as PromQL knows them."""
    for module in _NOT_OF_THE_GATEWAY:
        importlib.import_module(module)
    made = CollectorRegistry()
    GatewayMetrics(made)
    CaptureMetrics(made)
    KeyMetrics(made)
    UnitTeller(EventSender("units", _nowhere, max_bytes=0), made, limit=0)
    return {
        f"{family.name}{end}" for registry in (REGISTRY, made) for family in registry.collect()
        for end in _KINDS.get(family.type, ())
    }


def _nowhere() -> RecordSink:
    raise BrokerUnavailableError("nothing is sent")


def variables(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each variable's name, and the series and the label that it has its values from."""
    for item in dashboard["templating"]["list"]:
        if item["type"] == "query":
            series, _, label = item["definition"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
            yield item["name"], series, label
