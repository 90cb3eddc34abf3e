"""From the raw values of Prometheus counters to exact increments. Pure.

PromQL's ``increase()`` extrapolates to the edges of its window: it answers 3.7 requests where 3 were made, and 0 for a
series that has only just appeared. A test on counts needs the counts, so the controller reads raw values, remembers the
last one of each series in the rollout's own state, and subtracts.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from services.rollout.analysis import Counts


class Reading(BaseModel):
    """The last raw value of one counter series, and what it means to a guardrail.

    Attributes:
        target: who was scraped (job and instance). All its series begin anew when it restarts.
        version: the model version that was counted.
        cell: which of the target's counters for this version, for example an outcome or a histogram bucket.
        bad: the factor with which the increment counts as bad events: 1, 0 or -1.
        total: the factor with which it counts to the total: 1 or 0.
        at: when it was scraped, Unix time; 0 where nobody asks.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    version: str
    cell: str
    value: float
    bad: int
    total: int
    at: float = 0.0

    @property
    def series(self) -> str:
        """Which of the target's series it is."""
        return f"{self.version} {self.cell}"


# The last raw values: target -> series -> value.
Values = Mapping[str, Mapping[str, float]]


class InconsistentCountersError(ValueError):
    """The increments contradict each other: fewer than no bad events, or more bad events than events."""


def increments(
    last: Values, readings: Sequence[Reading]
) -> tuple[dict[str, dict[str, float]], dict[str, Counts]]:
    """The values to remember, and what was counted since `last` by model version.

    - A value below the remembered one is a counter that began anew: all of it is new.
    - A new series of a target that was seen before began at zero: all of it is new. (A client may create the series of
      an outcome at its first event; dropping that event would drop the first error of each kind.)
    - A new target may have counted for days before Prometheus met it: its values are only remembered.
    - The values of a series that is gone stay, so that after a missed scrape its return is subtracted rightly.

    Raises:
        InconsistentCountersError: naming the version; nothing may be concluded from this scrape.
    """
    values, found = sums(last, readings)
    return values, {version: _counts(version, bad, total) for version, (bad, total) in found.items()}


def sums(
    last: Values, readings: Sequence[Reading]
) -> tuple[dict[str, dict[str, float]], dict[str, tuple[float, float]]]:
    """The same for what need not be whole: by model version what counts as bad, or is summed, and the total."""
    values, growth = grown(last, readings)
    found: dict[str, tuple[float, float]] = {}
    for reading, more in zip(readings, growth, strict=True):
        bad, total = found.get(reading.version, (0.0, 0.0))
        found[reading.version] = bad + reading.bad * more, total + reading.total * more
    return values, found


def grown(last: Values, readings: Sequence[Reading]) -> tuple[dict[str, dict[str, float]], list[float]]:
    """The values to remember, and by how much each reading has grown since `last`."""
    values = {target: dict(series) for target, series in last.items()}
    growth: list[float] = []
    for reading in readings:
        unseen = 0.0 if reading.target in last else reading.value
        before = last.get(reading.target, {}).get(reading.series, unseen)
        growth.append(reading.value - before if reading.value >= before else reading.value)
        values.setdefault(reading.target, {})[reading.series] = reading.value
    return values, growth


def _counts(version: str, bad: float, total: float) -> Counts:
    if not 0 <= round(bad) <= round(total):
        raise InconsistentCountersError(
            f"the counters of {version} grew by {bad:g} bad events and {total:g} events in all"
        )
    return Counts(bad=round(bad), total=round(total))
