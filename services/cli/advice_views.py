"""What people see of advice. Pure."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from services.cli import words
from services.cli.estimate_views import gigabytes
from services.cli.output import pairs, rows, to_yaml

Item = Mapping[str, Any]
_WORDS = {"prompting": "prompting", "rag": "retrieval (RAG)", "fine_tuning": "fine-tuning",
          "hybrid": "a hybrid: fine-tuning and retrieval"}


def advice(answer: Item) -> RenderableType:
    """Approach and reasons, costs, recipe and what it takes."""
    parts: list[RenderableType] = [
        pairs({"advice": Text(_WORDS[answer["approach"]], style="bold green"),
               "examples": f"{answer['examples_minimum']} at least, {answer['examples_recommended']} are good"}),
        Text(), _reasons(answer["reasons"]), Text(), _costs(answer["costs"]),
    ]
    if answer["recipe"]:
        parts += [Text(), _recipe(answer["recipe"]), Text(), _needs(answer)]
        if answer["recipe"]["training"] is not None:
            parts.append(Text("\n" + to_yaml({"training": answer["recipe"]["training"]}).rstrip()))
    return Group(*parts)


def _reasons(reasons: list[Item]) -> RenderableType:
    return rows(reasons, {
        "FOUND": lambda i: i["finding"], "FOLLOWS": lambda i: i["follows"], "SOURCE": _source,
    }, empty="")


def _costs(costs: list[Item]) -> RenderableType:
    return rows(costs, {
        "APPROACH": lambda i: _WORDS[i["approach"]].partition(":")[0], "USD A MONTH": lambda i: _usd(i["usd"]),
        "TRAINING": lambda i: _usd(i["training_usd"]), "ANSWERING": lambda i: _usd(i["answering_usd"]),
        "TO KNOW IT, SAY": lambda i: ", ".join(i["unknown"]) or "-",
    }, empty="")


def _recipe(recipe: Item) -> RenderableType:
    return rows(recipe["values"], {
        "FIELD": lambda i: i["field"], "VALUE": lambda i: _value(i["value"]), "WHY": lambda i: i["why"],
        "SOURCE": _source,
    }, empty="")


def _needs(answer: Item) -> RenderableType:
    recipe, estimate = answer["recipe"], answer["estimate"]
    time = estimate["time"]
    return pairs({
        "steps": str(recipe["steps"]), "peak memory": gigabytes(estimate["memory"]["peak"]),
        "fits": {True: "yes", False: "no: " + _remedy(estimate), None: ""}[recipe["fits"]],
        "smallest GPU": estimate["recommended"] or "none of the table",
        "time": words.duration(time["seconds"]) if time else "",
        "one training": f"{time['usd']:.2f} USD" if time and time["usd"] is not None else "",
    })


def _remedy(estimate: Item) -> str:
    return "; ".join(step["change"] for step in estimate["together"]) or "a smaller model or more memory"


def _source(item: Item) -> str:
    return f"{item['source']['title']} ({item['source']['where']})"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
