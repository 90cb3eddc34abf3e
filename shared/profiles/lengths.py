"""Numbers in buckets that hold equal shares of the reference. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from shared.events.common import Distribution

BUCKETS = 10
_DIGITS = 4


def length_distribution(lengths: Sequence[int]) -> Distribution:
    """Counts between the deciles of `lengths`, which must not be empty; fewer buckets where many are equal."""
    edges = _edges(lengths)
    middle = [f"{low + 1} to {high}" if high > low + 1 else str(high) for low, high in pairwise(edges)]
    return _counted(lengths, edges, [f"to {edges[0]}", *middle, f"over {edges[-1]}"])


def value_distribution(values: Sequence[float]) -> Distribution:
    """The same of real numbers, rounded to four digits after the point."""
    rounded = [round(value, _DIGITS) for value in values]
    edges = _edges(rounded)
    middle = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return _counted(rounded, edges, [f"to {edges[0]:g}", *middle, f"over {edges[-1]:g}"])


def _edges(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    places = [(len(ordered) * share) // BUCKETS for share in range(1, BUCKETS)]
    # A last bucket above the largest one too: what was never seen must have a place.
    return sorted({*(ordered[place - 1] for place in places if place), ordered[-1]})


def _counted(values: Sequence[float], edges: Sequence[float], labels: list[str]) -> Distribution:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    return Distribution(labels=labels, counts=counts, edges=list(edges))
