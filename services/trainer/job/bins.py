"""Which rows of a batch share a sequence. Pure: token counts in, groups of row numbers out."""

from collections.abc import Sequence
from typing import TypeAlias

Bins: TypeAlias = list[list[int]]

_SEARCH_STEPS = 12


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> Bins:
    """Rows in sequences of at most `capacity` tokens, by best fit decreasing (Johnson et al., SIAM J. Comput. 3, 1974).

    The longest row comes first, and each goes where the least room is left that is still enough.

    Args:
        lengths: tokens of each row, none more than `capacity`.

    Returns:
        The numbers of the rows of each sequence. The same lengths always give the same sequences.
    """
    bins: Bins = []
    rooms: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        roomy = [number for number, room in enumerate(rooms) if room >= lengths[row]]
        if roomy:
            number = min(roomy, key=rooms.__getitem__)
        else:
            number = len(bins)
            bins.append([])
            rooms.append(capacity)
        bins[number].append(row)
        rooms[number] -= lengths[row]
    return bins


def balanced(lengths: Sequence[int], count: int) -> Bins:
    """Rows in at most `count` sequences of about the least capacity: MULTIFIT (Coffman, Garey and Johnson, SIAM J.
    Comput. 7, 1978), which bisects the capacity, with best fit decreasing inside.
    """
    low, high = max(*lengths, -(-sum(lengths) // count)), max(lengths) + sum(lengths) // count
    found = best_fit_decreasing(lengths, high)
    for _ in range(_SEARCH_STEPS):
        if low >= high:
            break
        middle = (low + high) // 2
        bins = best_fit_decreasing(lengths, middle)
        if len(bins) <= count:
            found, high = bins, middle
        else:
            low = middle + 1
    return found


def width(lengths: Sequence[int], bins: Bins) -> int:
    """Tokens of the longest sequence, which the others are padded to."""
    return max(sum(lengths[row] for row in rows) for rows in bins)


def cheapest(lengths: Sequence[int], attention: float) -> Bins:
    """The sequences that cost least: few long ones waste no padding, many short ones less attention.

    Without a kernel that skips what is masked, a token's attention costs as much as its sequence is long. A batch
    costs ``sequences * width * (1 + attention * width)``.

    Args:
        attention: what attention to one token costs, as a share of the rest of a token's work.
    """
    longest, total = max(lengths), sum(lengths)
    best, least = [[row] for row in range(len(lengths))], float("inf")
    # From as many as there can be, with more of which none would be shorter, to one.
    for count in range(min(len(lengths), -(-total // longest)), 0, -1):
        if total * (1 + attention * total / count) >= least:  # not even without any padding
            break
        bins = balanced(lengths, count)
        across = width(lengths, bins)
        cost = len(bins) * across * (1 + attention * across)
        if cost < least:
            best, least = bins, cost
    return best
