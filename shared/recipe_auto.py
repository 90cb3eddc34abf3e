"""The fields of a recipe that may be left to the trainer, which chooses them when a run begins."""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

AutoField = Literal[
    "batchSize", "gradientAccumulation", "learningRate", "warmupSteps", "epochs", "maxLength", "lora.rank",
    "lora.alpha", "checkpointEverySteps", "validateEverySteps",
]
AUTO_FIELDS: tuple[AutoField, ...] = get_args(AutoField)

# What is chosen with the scale, and has no name of its own in the list.
_CHOSEN = (*AUTO_FIELDS, "lora.rsLora")


def by_name(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's document with `learningRate: auto` as `auto: [learningRate]`: the value stays a number, there and in
    events.

    An adapter whose rank is chosen has its alpha chosen with it, unless that is written.
    """
    plain, lora, listed = dict(data), data.get("lora"), data.get("auto") or []
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        return plain  # what is wrong with it is told by its type
    named = [name for name in AUTO_FIELDS if data.get(name) == "auto"]
    if isinstance(lora, Mapping):
        inner = [name for name in AUTO_FIELDS if name.startswith("lora.") and lora.get(_last(name)) == "auto"]
        plain["lora"] = {key: value for key, value in lora.items() if f"lora.{key}" not in inner}
        named += inner
    if "lora.rank" in (*listed, *named) and (lora is None or (isinstance(lora, Mapping) and "alpha" not in lora)):
        named.append("lora.alpha")
    wanted = list(dict.fromkeys([*listed, *named]))
    kept = {key: value for key, value in plain.items() if key not in named}
    return kept | {"auto": wanted} if named else plain


def with_chosen(document: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Any]:
    """A recipe's document with what a run chose in the place of what it left open.

    Args:
        chosen: by the recipe's key, each value followed by a colon and the reason, as runs tell it.
    """
    found: dict[str, Any] = dict(document)
    for key, text in chosen.items():
        if key in _CHOSEN:
            value, part = json.loads(text.partition(":")[0]), key.rpartition(".")[0]
            if part:
                found[part] = {**found.get(part, {}), _last(key): value}
            else:
                found[key] = value
    return found | {"auto": [name for name in found.get("auto") or [] if name not in chosen]}


def _last(key: str) -> str:
    return key.rpartition(".")[2]
