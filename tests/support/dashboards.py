"""What dashboards ask of Prometheus: their expressions, what these need, and what a real Prometheus answers."""

import importlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import promql_parser
from prometheus_client import REGISTRY, CollectorRegistry

from services.gateway.capture import CaptureMetrics
from services.gateway.metrics import GatewayMetrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts" / "tuneloop" / "dashboards"
_KINDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
_NOT_OF_THE_GATEWAY = (
    "services.data_ingest.metrics", "services.trainer.metrics", "services.evaluator.metrics",
    "services.registry.metrics",
    "services.rollout.metrics", "services.drift.metrics", "services.serving.metrics", "services.serving.engine.metrics",
    "shared.messaging.metrics", "shared.reconcile",
)


@dataclass(frozen=True)
class Expression:
    """One expression, with where it stands."""

    where: str
    text: str

    def filled(self, variables: Mapping[str, str]) -> str:
        """The expression as Prometheus gets it."""
        text = self.text
        # The longest first: one may be the beginning of another.
        for name in sorted(variables, key=len, reverse=True):
            text = text.replace(f"${name}", variables[name])
        return text


@dataclass(frozen=True)
class Window:
    """From when to when, Unix time, and how far two points are from each other, seconds."""

    start: float
    end: float
    step: float

    @property
    def variables(self) -> dict[str, str]:
        """What Grafana would fill in for everything there is in this window."""
        return {
            "route": ".*", "pipeline": ".*", "version": ".*", "__rate_interval": f"{math.ceil(self.step * 4)}s",
            "__range": f"{math.ceil(self.end - self.start)}s",
        }


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


def metrics_of(text: str) -> set[str]:
    """Names of the series that an expression selects.

    Raises:
        ValueError: it does not parse.
    """
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> None:
        # walk() does not go into what a range is of.
        selector = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node
        if isinstance(selector, promql_parser.VectorSelector):
            found.add(str(selector.name))

    promql_parser.walk(promql_parser.parse(text), note)
    return found


def exposed() -> set[str]:
    """Names of all series that tuneloop's processes may have, as PromQL knows them."""
    for module in _NOT_OF_THE_GATEWAY:
        importlib.import_module(module)
    gateway = CollectorRegistry()
    GatewayMetrics(gateway)
    CaptureMetrics(gateway)
    return {
        f"{family.name}{end}" for registry in (REGISTRY, gateway) for family in registry.collect()
        for end in _KINDS.get(family.type, ())
    }


def answer(url: str, text: str, window: Window) -> list[dict[str, Any]]:
    """The series that Prometheus finds in a window, each with a number in it at some time; NaN is no number."""
    form = {"query": text, "start": str(window.start), "end": str(window.end), "step": str(window.step)}
    body = httpx.post(f"{url}/api/v1/query_range", data=form, timeout=60, trust_env=False).json()
    assert body["status"] == "success", f"{text}: {body.get('error')}"
    return [series for series in body["data"]["result"] if any(value != "NaN" for _, value in series["values"])]


def without_data(url: str, asked: Iterable[Expression], window: Window) -> dict[str, str]:
    """The expressions that Prometheus has nothing for, by where they stand."""
    return {
        expression.where: text for expression in asked
        if not answer(url, text := expression.filled(window.variables), window)
    }
