"""What each guardrail reads from Prometheus, and how its samples become bad events over a total. Pure.

    errors               requests with outcome "error" over those and the "ok" ones
    thumbs_down          judgements "bad" over all judgements
    refusals             refused answers over all whole answers
    invalid_output       invalid structured answers over those that were checked
    latency              ok requests that took longer than `sloSeconds`, over all ok requests: count - bucket{le=slo}
    time_to_first_token  the same of streams' first output
    inter_token          the same of a stream's mean time between two outputs: one event for each request, because the
                         gaps of one stream are as slow as each other, and would be taken for that much evidence
    promql               two sums of counters (shared/promql.py), read for each version by itself

In a step with copies (`shadow`) errors and latency are those of the copies, against stable's traffic, or against the
control's copies of the same requests; the others see nothing. A rejected request (4xx) is the client's own doing and
in none of them. The gateway shows all cells of a version from the start, so a cell that is missing is a fault and not
a zero.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from services.rollout.analysis import Bounds
from services.rollout.counts import Reading
from shared import gateway_metrics as gateway
from shared.pipeline import Counted, Guardrail, RolloutPolicy
from shared.promql import fill, selectors


@dataclass(frozen=True)
class Sample:
    """The newest sample of one series: its labels without the metric's name, its value, its time in Unix seconds."""

    labels: dict[str, str] = field(hash=False)
    value: float
    at: float

    @property
    def target(self) -> str:
        return f"{self.labels.get('job', '')}/{self.labels.get('instance', '')}"


@dataclass(frozen=True)
class NoData:
    """Why a guardrail cannot be judged now. It is neither success nor failure.

    Attributes:
        kind: one word for logs and metrics, stable from look to look.
        reason: continues "no data because ...".
        others: what the same look found of others than the candidate. Nothing can be judged by it, but who was scraped
            is known from then on, and what the candidate's series begin with counts.
    """

    kind: str
    reason: str
    others: tuple[Reading, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Query:
    """One question to Prometheus.

    Attributes:
        selector: PromQL, a vector selector.
        version: whose samples these are; empty where their label `model_version` says it.
        part: what they count as; empty where another label says it.
        may_lack: kinds of `NoData` that are an answer, too: there are no such events.
    """

    selector: str
    version: str = ""
    part: Literal["", "bad", "total"] = ""
    may_lack: frozenset[str] = frozenset()


Found = Sequence[tuple[Query, Sequence[Sample]]]


@dataclass(frozen=True)
class _Cells:
    """A counter with a label whose values are good or bad."""

    name: str
    label: str
    good: tuple[str, ...]
    bad: tuple[str, ...]


_COUNTERS = {
    "errors": _Cells(gateway.REQUESTS, "outcome", ("ok",), ("error",)),
    "thumbs_down": _Cells(gateway.FEEDBACK, "verdict", ("good", "neutral"), ("bad",)),
    "refusals": _Cells(gateway.ANSWERS, "kind", ("answered",), ("refused",)),
    "invalid_output": _Cells(gateway.STRUCTURED, "result", ("valid",), ("invalid",)),
}
# Of a mean, as the expressions of a `promql`: what is summed, and how many there were.
_MEANS = {
    "feedback_score": (
        f'{gateway.FEEDBACK_SCORE}{{route="$route",model_version="$version"}}',
        f'{gateway.FEEDBACK}{{route="$route",model_version="$version"}}',
    ),
}
_HISTOGRAMS = {
    "latency": gateway.DURATION,
    "time_to_first_token": gateway.FIRST_TOKEN,
    "inter_token": gateway.MEAN_GAP,
}
# What the gateway counts of copies. A copy whose primary went well and that is rejected is the candidate's fault.
_COPIES: dict[str, _Cells | str] = {
    "errors": _Cells(gateway.SHADOW, "outcome", ("ok",), ("error", "timeout", "rejected")),
    "latency": gateway.SHADOW_DURATION,
}
# Their totals are a version's requests, which is what `minRequests` means. (Streams or judgements may be few.)
_OF_REQUESTS = frozenset({"errors", "latency", "refusals"})
# What stable lacks when it has no traffic and no gateway knows it any more: then only the tolerable rate is tested.
_STABLE_MAY_LACK = frozenset({"empty", "stale"})
_OWN_LABELS = frozenset({"job", "instance", "route", "model_version"})


def counted_in(policy: RolloutPolicy) -> list[Counted]:
    """All that a policy wants counted, each once: what the candidate shall be better at may be guarded as well."""
    guarded = {guardrail.called for guardrail in policy.guardrails}
    return [*policy.guardrails, *(goal for goal in policy.goals if goal.called not in guarded)]


def bounds_of(guardrail: Guardrail) -> Bounds:
    """What its safety is measured against."""
    return Bounds(margin=guardrail.margin, tolerable=guardrail.tolerable_rate)


def is_mean(counted: Counted) -> bool:
    """Whether it is a mean of values in [0, 1], and no share of events."""
    return counted.metric in _MEANS


def counts_requests(guardrail: Counted) -> bool:
    """Whether its total is the version's requests."""
    return guardrail.metric in _OF_REQUESTS


def judges_copies(guardrail: Counted) -> bool:
    """Whether it can be judged by copies of requests."""
    return guardrail.metric in _COPIES


def queries_of(
    guardrail: Counted, route: str, stable: str, candidate: str, *, copies: bool = False
) -> tuple[Query, ...]:
    """What to ask for all that it needs, of both versions; with `copies`, also what those of the candidate showed."""
    asked = _queries(guardrail, route, stable, candidate)
    if not copies or not judges_copies(guardrail):
        return asked
    source = _COPIES[guardrail.metric]
    selector = f'{source}_bucket{{route="{route}"}}' if isinstance(source, str) else _selector(source, route)
    return (*asked, Query(selector, candidate))


def _queries(guardrail: Counted, route: str, stable: str, candidate: str) -> tuple[Query, ...]:
    if _expressions(guardrail):
        of_stable = _promql(guardrail, route, stable, _STABLE_MAY_LACK)
        return (*_promql(guardrail, route, candidate, frozenset()), *of_stable)
    if guardrail.metric in _HISTOGRAMS:
        return (Query(f'{_HISTOGRAMS[guardrail.metric]}_bucket{{route="{route}"}}'),)
    return (Query(_selector(_COUNTERS[guardrail.metric], route)),)


def _expressions(guardrail: Counted) -> tuple[str, str] | None:
    """PromQL of bad events (or what a mean sums) and of all; None for what has a counter of its own."""
    if guardrail.metric == "promql":
        return guardrail.bad or "", guardrail.total or ""
    return _MEANS.get(guardrail.metric)


def _selector(cells: _Cells, route: str) -> str:
    return f'{cells.name}{{route="{route}",{cells.label}=~"{"|".join((*cells.good, *cells.bad))}"}}'


def _promql(guardrail: Counted, route: str, version: str, may_lack: frozenset[str]) -> tuple[Query, ...]:
    """Of one version. Total first: where it is missing, nothing else is asked."""
    bad, total = _expressions(guardrail) or ("", "")
    no_bad_yet = frozenset({"empty"} if guardrail.missing_bad_is_zero else ())
    totals = [Query(fill(selector, route=route, version=version), version, "total", may_lack)
              for selector in selectors(total)]
    bads = [Query(fill(selector, route=route, version=version), version, "bad", may_lack | no_bad_yet)
            for selector in selectors(bad)]
    return (*totals, *bads)


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
        summed = _expressions(guardrail) is not None
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
    source: _Cells | str = _COUNTERS.get(guardrail.metric) or _HISTOGRAMS[guardrail.metric]
    readings = _read(source, guardrail, [samples for query, samples in found if not query.version])
    copied = [samples for query, samples in found if query.version]
    if not copied:
        return readings
    theirs = (_remembered(reading) if reading.version in copied_to else reading for reading in readings)
    copies = _read(_COPIES[guardrail.metric], guardrail, copied)
    return (*theirs, *(
        reading.model_copy(update={"cell": f"copies {reading.cell}"})
        for reading in copies if reading.version in copied_to
    ))


def _remembered(reading: Reading) -> Reading:
    return reading.model_copy(update={"bad": 0, "total": 0})


def _read(source: _Cells | str, guardrail: Counted, found: Sequence[Sequence[Sample]]) -> tuple[Reading, ...]:
    samples = [sample for part in found for sample in part]
    return _cells(source, samples) if isinstance(source, _Cells) else _buckets(guardrail, samples)


def _cells(cells: _Cells, samples: Sequence[Sample]) -> tuple[Reading, ...]:
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
