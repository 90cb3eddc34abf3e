"""One look at the world for one rollout: what the controller's own tables say, and Prometheus; outside a transaction.

An abort and a successor do not wait for Prometheus, which may be what is broken: the reducer acts on them without.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.rollout import latency
from services.rollout.counts import Reading
from services.rollout.facts import Known
from services.rollout.guardrails import counted_in
from services.rollout.models import Rollout
from services.rollout.observation import Observation
from services.rollout.queries import Query, queries_of
from services.rollout.readings import readings_of
from services.rollout.samples import NoData, Sample
from services.rollout.state import RolloutState
from services.rollout.unit_counts import UnitReadings
from services.rollout.unit_counts import readings_of as readings_of_units
from shared.gateway_metrics import EVENT_UNNAMED, UNIT_EVENTS
from shared.pipeline import Counted, RolloutPolicy


class Samples(Protocol):
    """Where samples come from: `services.rollout.prometheus.Prometheus`."""

    def newest(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        """The newest fresh sample of each series, or why there are none."""
        ...


def observe(
    known: Known, samples: Samples, rollout: Rollout, state: RolloutState, *, policy: RolloutPolicy, now: datetime
) -> Observation:
    """Everything that the reducer may base its next step on.

    Args:
        known: what the database says.
        state, policy: the rollout's own.
    """
    urgent = known.successor is not None or (known.command is not None and known.command.verb == "abort")
    asked = _Once(samples)
    readings = {} if urgent else _readings(asked, rollout, policy, known, now, copies=state.shadow > 0)
    answered = any(not isinstance(found, NoData) or found.others for found in readings.values())
    return Observation(
        stable=known.stable, candidate=rollout.model_version, readings=readings, loading=known.loading,
        route_free=known.route_free, misfit=known.misfit, successor=known.successor, command=known.command,
        latencies=_latencies(asked, rollout, known, now)
        if answered and latency.due(rollout.route, state, now, policy) else (),
        units=_units(asked, rollout.route, known, now) if answered else None,
        answers=known.answers, control=known.control,
    )


class _Once:
    """The samples of one look: whoever asks for the same series gets the same answer."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._answers: dict[str, Sequence[Sample] | NoData] = {}

    def newest(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        if selector not in self._answers:
            self._answers[selector] = self._samples.newest(selector, now)
        return self._answers[selector]


def _readings(
    samples: Samples, rollout: Rollout, policy: RolloutPolicy, known: Known, now: datetime, *, copies: bool
) -> dict[str, tuple[Reading, ...] | NoData]:
    """All that is counted."""
    readings: dict[str, tuple[Reading, ...] | NoData] = {}
    wanted = counted_in(policy)
    for counted in wanted:
        found = read(
            samples, counted, now, route=rollout.route, stable=known.control or known.stable,
            candidate=rollout.model_version, control=known.control, copies=copies,
        )
        readings[counted.called] = found
        if isinstance(found, NoData) and found.kind in ("timeout", "unreachable"):
            # The next query would only wait as long again.
            return {**{other.called: found for other in wanted}, **readings}
    return readings


def read(
    samples: Samples, counted: Counted, now: datetime, *, route: str, stable: str, candidate: str,
    control: str | None = None, copies: bool = False,
) -> tuple[Reading, ...] | NoData:
    """The counters of a guardrail or of an A/B test, or why there are none.

    Args:
        stable: whom the candidate is compared with.
        control: the same where it is the control, which gets copies as the candidate does.
    """
    asked = queries_of(counted, route, stable, candidate, copies=copies)
    result = _asked(samples, counted, now, asked, candidate=candidate, control=control)
    if not isinstance(result, NoData) or result.kind != "no_bucket":
        return result
    # To say which there are.
    every = queries_of(counted, route, stable, candidate, copies=copies, every_bucket=True)
    return _asked(samples, counted, now, every, candidate=candidate, control=control)


def _asked(
    samples: Samples, counted: Counted, now: datetime, queries: Sequence[Query], *, candidate: str, control: str | None
) -> tuple[Reading, ...] | NoData:
    found: list[tuple[Query, Sequence[Sample]]] = []
    for query in queries:
        answer = samples.newest(query.selector, now)
        if not isinstance(answer, NoData):
            found.append((query, answer))
        elif answer.kind not in query.may_lack:
            return answer
    return readings_of(counted, found, candidate, control)


def _latencies(samples: Samples, rollout: Rollout, known: Known, now: datetime) -> tuple[Reading, ...]:
    """Of both versions; nothing where there are none, because nothing hangs on them."""
    versions = known.control or known.stable, rollout.model_version
    found = samples.newest(latency.selector(rollout.route, *versions), now)
    return () if isinstance(found, NoData) else latency.readings_of(found)


def _units(samples: Samples, route: str, known: Known, now: datetime) -> UnitReadings | NoData:
    """Units that name nobody, as the gateways count them, and what all others met, each once."""
    if known.met is None:
        return NoData("not_told", "the rollout began before gateways told of whom they serve: abort it, and retry")
    counters = samples.newest(f'{UNIT_EVENTS}{{route="{route}",event="{EVENT_UNNAMED}"}}', now)
    if isinstance(counters, NoData) and counters.kind != "empty":
        return counters
    return readings_of_units(() if isinstance(counters, NoData) else counters, known.met)
