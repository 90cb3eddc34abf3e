"""A rollout's decisions as series over time, for drawing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.cli import words

Item = Mapping[str, Any]
# More looks than this are no finer in a picture, and too much for a page.
_MOST_LOOKS = 600


@dataclass(frozen=True)
class Mark:
    """A decision that changed something, with the number under which picture and table know it."""

    number: int
    seconds: float
    item: Item


@dataclass(frozen=True)
class Line:
    """One quantity over time, ``[(seconds, value)]``, and the threshold that it is measured against."""

    points: list[tuple[float, float]]
    threshold: float


@dataclass(frozen=True)
class Guardrail:
    """The evidence of one guardrail over time, and its numbers at the last look."""

    name: str
    harm: Line
    safe: Line
    last: Item


@dataclass(frozen=True)
class Effect:
    """By how much the candidate was better at what decides an A/B test, or at an objective.

    Attributes:
        points: ``[(seconds, low, estimate, high)]``.
        decides: the difference beyond which it is met.
    """

    name: str
    points: list[tuple[float, float, float, float]]
    decides: float


@dataclass(frozen=True)
class Story:
    """A rollout over time, in seconds since its first decision.

    Attributes:
        looks: the stored decisions, oldest first; of very many every so-manieth hold.
        stored: how many there were.
        marks: those that changed something.
        weights: the candidate's share in percent after each decision.
        effects: of the A/B test and of the objectives.
        end: of the time axis.
    """

    rollout: Item
    looks: list[Mark]
    stored: int
    marks: list[Mark]
    weights: list[tuple[float, float]]
    guardrails: list[Guardrail]
    effects: list[Effect]
    end: float


def story(rollout: Item, decisions: Sequence[Item]) -> Story:
    """The decisions (in any order) of a rollout as series."""
    ordered = sorted(decisions, key=lambda item: words.instant(item["at"]))
    looks: list[Mark] = []
    number = 0
    for item in ordered:
        seconds = (words.instant(item["at"]) - words.instant(ordered[0]["at"])).total_seconds()
        number += item["action"] != "hold"
        looks.append(Mark(number, seconds, item))
    every = max(1, math.ceil(len(looks) / _MOST_LOOKS))
    looks = [mark for at, mark in enumerate(looks)
             if mark.item["action"] != "hold" or at % every == 0 or at == len(looks) - 1]
    last = ordered[-1]["evidence"] if ordered else {}
    tested = [name for name, numbers in last.items() if "effect" in numbers]
    return Story(
        rollout=rollout, looks=looks, stored=len(ordered),
        marks=[mark for mark in looks if mark.item["action"] != "hold"],
        weights=[(mark.seconds, mark.item["weight"] / 100) for mark in looks],
        guardrails=[_guardrail(name, looks) for name in last if name not in tested],
        effects=[_effect(name, looks) for name in tested], end=looks[-1].seconds if looks else 0.0,
    )


def _seen(name: str, looks: Sequence[Mark]) -> list[tuple[float, Item]]:
    return [(mark.seconds, mark.item["evidence"][name]) for mark in looks if name in mark.item["evidence"]]


def _effect(name: str, looks: Sequence[Mark]) -> Effect:
    seen = _seen(name, looks)
    return Effect(name, [(at, n["effect_low"], n["effect"], n["effect_high"]) for at, n in seen],
                  seen[-1][1]["min_effect"])


def _guardrail(name: str, looks: Sequence[Mark]) -> Guardrail:
    seen = _seen(name, looks)
    last = seen[-1][1]
    return Guardrail(
        name=name, last=last,
        harm=Line([(at, numbers["e_harm"]) for at, numbers in seen], last["harm_threshold"]),
        safe=Line([(at, numbers["e_safe"]) for at, numbers in seen], last["safe_threshold"]),
    )
