"""What all parts of a pipeline's spec are made of: strict models with camelCase keys, names, and durations."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

_DURATION = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)$")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Seconds from ``20s``, ``10m``, ``1.5h``; numbers are seconds already."""
    if isinstance(value, int | float):
        return _seconds(float(value))
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, such as 30s, 10m or 2h")
    return _seconds(float(match[1]) * _UNITS[match[2]])


def _seconds(value: float) -> timedelta:
    try:
        return timedelta(seconds=value)
    except OverflowError as error:
        raise ValueError(f"{value:g} seconds is longer than a duration can be") from error


def format_duration(value: timedelta) -> str:
    """The text that `parse_duration` reads back as the same value; never in exponents, which it does not read."""
    return f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    Field(ge=timedelta(0), json_schema_extra={"type": "string", "format": "duration", "examples": ["30s", "10m"]}),
]
SLUG_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Slug = Annotated[str, Field(pattern=SLUG_PATTERN)]


class SpecPart(BaseModel):
    """Base of all parts: camelCase keys, no unknown keys, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="forbid", frozen=True,
        allow_inf_nan=False,
    )
