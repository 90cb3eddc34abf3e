"""Lengths in buckets that hold equal shares of the reference. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from shared.events.common import Distribution

LENGTH_BUCKETS = 10


def length_distribution(lengths: Sequence[int]) -> Distribution:
    """Counts between the deciles of `lengths`, which must not be empty; fewer buckets where many are equal."""
    ordered = sorted(lengths)
    cuts = [ordered[(len(ordered) * share) // LENGTH_BUCKETS - 1] for share in range(1, LENGTH_BUCKETS)
            if (len(ordered) * share) // LENGTH_BUCKETS]
    # A last bucket above the longest one too: what was never seen must have a place.
    edges = sorted({*cuts, ordered[-1]})
    counts = [0] * (len(edges) + 1)
    for length in ordered:
        counts[bisect_left(edges, length)] += 1
    middle = [f"{low + 1} to {high}" if high > low + 1 else str(high) for low, high in pairwise(edges)]
    labels = [f"to {edges[0]}", *middle, f"over {edges[-1]}"]
    return Distribution(labels=labels, counts=counts, edges=edges)
