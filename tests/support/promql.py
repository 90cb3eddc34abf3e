"""PromQL in tests: what an expression asks for, and what a real Prometheus answers."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import promql_parser

_SPLIT = frozenset({"==", "!=", ">", "<", ">=", "<=", "and", "or"})


@dataclass(frozen=True)
class Expression:
    """One expression, with where it stands."""

    where: str
    text: str

    def asks_for(self, prefix: str) -> bool:
        """Whether it selects a series whose name begins so."""
        return any(name.startswith(prefix) for name in metrics_of(self.filled(Window(0, 3600, 15).variables)))

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


def operands(text: str) -> list[str]:
    """What an alert's expression looks at. The expression itself has no answer as long as all is well.

    Comparisons and set operators are taken apart; of `unless` only the first side counts, because data on the second
    take away. What `absent` asks for should be there.
    """
    return _operands(promql_parser.parse(text))


def _operands(node: promql_parser.Expr) -> list[str]:
    if isinstance(node, promql_parser.NumberLiteral):
        return []
    if isinstance(node, promql_parser.ParenExpr):
        return _operands(node.expr)
    if isinstance(node, promql_parser.Call) and node.func.name == "absent":
        return [str(argument) for argument in node.args]
    if isinstance(node, promql_parser.BinaryExpr):
        if str(node.op) == "unless":
            return _operands(node.lhs)
        if str(node.op) in _SPLIT:
            return [*_operands(node.lhs), *_operands(node.rhs)]
    return [str(node)]


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
