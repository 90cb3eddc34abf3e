"""How the samples of a guardrail, an A/B test or an objective become bad events over a total, or no data. Pure."""

import math
from collections.abc import Sequence, Set

from services.rollout.counts import Reading
from services.rollout.guardrails import COPIES, COUNTERS, HISTOGRAMS, Cells, expressions
from services.rollout.queries import Query
from services.rollout.samples import NoData, Sample
from shared.pipeline import Counted

Found = Sequence[tuple[Query, Sequence[Sample]]]
_OWN_LABELS = frozenset({"job", "instance", "route", "model_version"})


def readings_of(
    guardrail: Counted, found: Found, candidate: str, control: str | None = None
) -> tuple[Reading, ...] | NoData:
    """The samples as readings of counters, or why they are no data.

    Args:
        found: fresh samples, at least one for each query; queries that may lack them and did are left out.
        candidate: its model version. Without its series there is nothing to judge. Stable's may be missing (where it
            has no traffic left): then only the tolerable rate can be tested.
        control: its name, where there is one; copies go to it too. Without its series there is nothing to compare with.
    """
    for _, samples in found:
        for sample in samples:
            if not math.isfinite(sample.value) or sample.value < 0:
                return NoData("invalid", f"the counter {sample.labels} has the value {sample.value}")
    copied_to = {candidate, control}
    try:
        summed = expressions(guardrail) is not None
        readings = _summed(guardrail, found) if summed else _counted(guardrail, found, copied_to)
    except _UselessError as error:
        return error.no_data
    if not any(reading.version == candidate and (reading.bad or reading.total) for reading in readings):
        return NoData("no_candidate", f"there are no fresh samples of {candidate}", others=readings)
    if control is not None and all(reading.version != control for reading in readings):
        return NoData("no_control", f"there are no fresh samples of {control}", others=readings)
    return readings


class _UselessError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.no_data = NoData(kind, reason)


def _counted(guardrail: Counted, found: Found, copied_to: Set[str | None]) -> tuple[Reading, ...]:
    """By the gateways' own metrics. Where copies are judged, their receivers' other counters are only remembered."""
    source: Cells | str = COUNTERS.get(guardrail.metric) or HISTOGRAMS[guardrail.metric]
    readings = _read(source, guardrail, [samples for query, samples in found if not query.version])
    copied = [samples for query, samples in found if query.version]
    if not copied:
        return readings
    theirs = (_remembered(reading) if reading.version in copied_to else reading for reading in readings)
    copies = _read(COPIES[guardrail.metric], guardrail, copied)
    return (*theirs, *(
        reading.model_copy(update={"cell": f"copies {reading.cell}"})
        for reading in copies if reading.version in copied_to
    ))


def _remembered(reading: Reading) -> Reading:
    return reading.model_copy(update={"bad": 0, "total": 0})


def _read(source: Cells | str, guardrail: Counted, found: Sequence[Sequence[Sample]]) -> tuple[Reading, ...]:
    samples = [sample for part in found for sample in part]
    return _cells(source, samples) if isinstance(source, Cells) else _buckets(guardrail, samples)


def _cells(cells: Cells, samples: Sequence[Sample]) -> tuple[Reading, ...]:
    readings = [
        Reading(
            target=sample.target, version=_label(sample, "model_version"), cell=_cell(sample, cells.label),
            value=sample.value, bad=int(_label(sample, cells.label) in cells.bad), total=1, at=sample.at,
        )
        for sample in samples
    ]
    shown = [(sample, _label(sample, cells.label)) for sample in samples]
    _check_whole(shown, cells.label, {*cells.good, *cells.bad})
    return tuple(readings)


def _buckets(guardrail: Counted, samples: Sequence[Sample]) -> tuple[Reading, ...]:
    """All requests, less those within the SLO."""
    slo = guardrail.slo_seconds
    bounds = [(sample, _bound(sample)) for sample in samples]
    if slo is None or slo not in {bound for _, bound in bounds}:
        has = ", ".join(f"{bound:g}" for bound in sorted({bound for _, bound in bounds}))
        raise _UselessError("no_bucket", f"the histogram has no bucket le={slo:g}; it has {has}")
    wanted = [(sample, bound) for sample, bound in bounds if bound in (slo, math.inf)]
    _check_whole([(sample, f"{bound:g}") for sample, bound in wanted], "le", {f"{slo:g}", "inf"})
    return tuple(
        Reading(
            target=sample.target, version=_label(sample, "model_version"), cell=f"le={bound:g}{_others(sample, 'le')}",
            value=sample.value, bad=1 if bound == math.inf else -1, total=int(bound == math.inf), at=sample.at,
        )
        for sample, bound in wanted
    )


def _summed(guardrail: Counted, found: Found) -> tuple[Reading, ...]:
    parts: dict[str, set[str]] = {}
    readings = []
    for query, samples in found:
        parts.setdefault(query.version, set()).add(query.part)
        for sample in samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            readings.append(Reading(
                target=sample.target, version=query.version, cell=f"{query.part} {query.selector} {labels}",
                value=sample.value, bad=int(query.part == "bad"), total=int(query.part == "total"), at=sample.at,
            ))
    for version, has in parts.items():
        if "total" not in has:
            raise _UselessError("incomplete", f"there are bad events of {version} but no total")
        if "bad" not in has and not guardrail.missing_bad_is_zero:
            raise _UselessError("incomplete", f"there is a total of {version} but no bad events, not even at 0")
    return tuple(readings)


def _check_whole(shown: Sequence[tuple[Sample, str]], label: str, wanted: set[str]) -> None:
    """Half of a counter is worse than none: a total without its good events looks like harm."""
    has: dict[tuple[str, str], set[str]] = {}
    for sample, cell in shown:
        has.setdefault((sample.target, _label(sample, "model_version")), set()).add(cell)
    for (target, version), cells in has.items():
        if missing := sorted(wanted - cells):
            raise _UselessError("incomplete", f"{target} shows {version} without {label}={missing[0]}")


def _cell(sample: Sample, label: str) -> str:
    return f"{_label(sample, label)}{_others(sample, label)}"


def _others(sample: Sample, label: str) -> str:
    """Labels that somebody added on the way, so that two series are never taken for one."""
    added = sorted((name, value) for name, value in sample.labels.items() if name not in _OWN_LABELS | {label})
    return "".join(f" {name}={value}" for name, value in added)


def _label(sample: Sample, name: str) -> str:
    if name not in sample.labels:
        raise _UselessError("malformed", f"the series {sample.labels} has no label {name}")
    return sample.labels[name]


def _bound(sample: Sample) -> float:
    try:
        return float(_label(sample, "le"))
    except ValueError:
        raise _UselessError("malformed", f"the series {sample.labels} has no bound in le") from None
