"""How long answers take, as quantiles with confidence sequences. For people: nothing is decided by it. Pure.

The histogram's buckets are many, and an interval that holds at all times also holds where it is looked at now and then.
So they are read at every twelfth look, which is another one for each rollout: it costs a tenth of what looks cost.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from zlib import crc32

from services.rollout.analysis import Counts, Interval
from services.rollout.analysis.proportions import bucket_quantile
from services.rollout.counts import InconsistentCountersError, Reading, increments
from services.rollout.guardrails import counted_in
from services.rollout.observation import Observation
from services.rollout.samples import Sample
from services.rollout.state import LatencyState, RolloutState
from shared.gateway_metrics import DURATION, EVENT_LATENCY
from shared.pipeline import RolloutPolicy

QUANTILES = (0.5, 0.95, 0.99)
_EVERY_LOOKS = 12


def due(route: str, state: RolloutState, now: datetime, policy: RolloutPolicy) -> bool:
    """Whether this look shall read the histogram: while the candidate has users, of what shall be fast, or is tested.

    The first look at its traffic does, because its counts are what is subtracted from later ones.
    """
    wanted = policy.ab_test is not None or any(counted.metric == EVENT_LATENCY for counted in counted_in(policy))
    if not wanted or state.weight == 0 or state.phase not in ("progressing", "paused"):
        return False
    last, begun = state.looked_at, state.exposed_from
    every = _EVERY_LOOKS * policy.interval.total_seconds()

    def turn(at: datetime) -> int:
        return int((at.timestamp() + crc32(route.encode()) % every) // every)

    return last is None or begun is None or last <= begun or turn(last) != turn(now)


def selector(route: str, stable: str, candidate: str) -> str:
    """What to ask Prometheus for. It names the versions, so that it is asked for this route alone (batch.py)."""
    return f'{DURATION}_bucket{{route="{route}",model_version=~"{stable}|{candidate}"}}'


def readings_of(samples: Sequence[Sample]) -> tuple[Reading, ...]:
    """All buckets of a histogram, each as a counter of its own."""
    return tuple(
        Reading(target=sample.target, version=_cell(sample.labels["model_version"], sample.labels["le"]),
                cell=sample.labels["le"], value=sample.value, bad=0, total=1)
        for sample in samples if math.isfinite(sample.value) and {"le", "model_version"} <= sample.labels.keys()
    )


def counted(before: LatencyState, seen: Observation) -> LatencyState:
    """The state with what this look read; as it was where that is nothing, or contradicts itself."""
    if not seen.latencies:
        return before
    try:
        counters, counts = increments(before.counters, seen.latencies)
    except InconsistentCountersError:
        return before
    buckets = {}
    for role, version in (("stable", seen.baseline), ("candidate", seen.candidate)):
        so_far = before.buckets.get(role, {})
        bounds = {reading.cell for reading in seen.latencies} | so_far.keys()
        buckets[role] = {
            bound: so_far.get(bound, 0) + counts.get(_cell(version, bound), Counts()).total for bound in bounds
        }
    return LatencyState(counters=counters, buckets=buckets)


def _cell(version: str, bound: str) -> str:
    return f"{version} {bound}"


def quantiles(state: LatencyState, role: str, alpha: float) -> dict[float, Interval]:
    """In seconds, as the buckets know them, with confidence sequences; nothing of what was not seen."""
    counts = sorted((float(bound), count) for bound, count in state.buckets.get(role, {}).items())
    if not counts or counts[-1] == (math.inf, 0) or counts[-1][0] != math.inf:
        return {}
    bounds, cumulative = zip(*counts, strict=True)
    return {level: bucket_quantile(bounds, cumulative, level, alpha) for level in QUANTILES}
