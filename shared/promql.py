"""The PromQL that a guardrail may have: sums of plain counters, as templates. Pure.

The controller reads raw values with the times at which they were scraped, and subtracts by itself, because ``rate()``
and ``increase()`` extrapolate. So an expression must be a selector, or several with ``+`` between them:

    bad:    app_errors_total{model="$version"} + app_timeouts_total{model="$version"}
    total:  app_requests_total{model="$version"}

``$version`` and ``$route`` are filled in for each version that is compared. promql-parser, the Rust port of Prometheus'
own grammar, reads the expressions.
"""

import difflib
import json
import re
from typing import Any

from shared.gateway_metrics import SERIES

VARIABLES = ("route", "version")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
_REMEDY = "write plain counters with + between them; the controller subtracts and adds up by itself"


def selectors(expression: str) -> tuple[str, ...]:
    """The selectors of an expression, still with their variables.

    Raises:
        ValueError: it does not parse, or is something else than a sum of counters; with the remedy.
    """
    # Imported where it is needed: most of who reads a pipeline has no PromQL in it.
    import promql_parser

    try:
        tree = promql_parser.parse(expression)
    except ValueError as error:
        raise ValueError(f"{expression!r} is not PromQL: {error}") from error
    found = tuple(_selector(node) for node in _summands(tree, promql_parser))
    for selector in found:
        unknown = [name for name in _variables(selector) if name not in VARIABLES]
        if unknown:
            raise ValueError(f"{expression!r}: ${unknown[0]} is unknown; there are $version and $route")
        if "version" not in _variables(selector):
            raise ValueError(
                f"{selector} is the same for every version; add a matcher such as {{model_version=\"$version\"}}"
            )
    return found


def fill(selector: str, *, route: str, version: str) -> str:
    """A selector with its variables filled in."""
    values = {"route": route, "version": version}
    return _VARIABLE.sub(lambda match: values[match[1].strip("{}")], selector)


def _variables(text: str) -> list[str]:
    return [name.strip("{}") for name in _VARIABLE.findall(text)]


def _summands(node: Any, parser: Any) -> list[Any]:
    if isinstance(node, parser.ParenExpr):
        return _summands(node.expr, parser)
    if isinstance(node, parser.BinaryExpr) and str(node.op) == "+" and node.modifier is None:
        return [*_summands(node.lhs, parser), *_summands(node.rhs, parser)]
    if not isinstance(node, parser.VectorSelector):
        raise ValueError(f"{node} is {_WORDS.get(type(node).__name__, 'not a counter')}: {_REMEDY}")  # noqa: TRY004
    if node.offset is not None or node.at is not None:
        raise ValueError(f"{node} looks at another time: remove offset and @")
    return [node]


_WORDS = {
    "Call": "a function", "AggregateExpr": "an aggregation", "MatrixSelector": "a range", "SubqueryExpr": "a subquery",
    "BinaryExpr": "arithmetic other than +", "NumberLiteral": "a number", "StringLiteral": "a string",
    "UnaryExpr": "a negated value",
}


def _selector(node: Any) -> str:
    """The selector as text, with its strings escaped anew: they were read without their escapes."""
    if not node.name:
        raise ValueError(f"{node} names no metric: put the metric's name before the braces")
    if node.matchers.or_matchers:
        raise ValueError(f"{node} has 'or' between matchers: write two selectors with + between them")
    _check_known(node.name)
    matchers = [
        f"{matcher.name}{_OPERATORS[str(matcher.op).rpartition('.')[2]]}{json.dumps(matcher.value, ensure_ascii=False)}"
        for matcher in node.matchers.matchers
    ]
    return f"{node.name}{{{','.join(matchers)}}}"


def _check_known(name: str) -> None:
    """What tuneloop exposes is known here; of others' metrics only Prometheus knows whether they exist."""
    if name.startswith("tuneloop_") and name not in SERIES:
        near = difflib.get_close_matches(name, SERIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; docs/gateway.md lists them"
        raise ValueError(f"the gateway has no counter {name}{hint}")
