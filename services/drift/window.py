"""The watch over one model version on one route, as a pure reducer.

Samples are counted into a window. A full window is compared with the reference, feature by feature; each p-value moves
the feature's detector, and a detector at its threshold is an alarm. The state is as large after a year as after a day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from services.drift import detector
from services.drift.statistics import Comparison, compare
from shared.events import BucketShare, Distribution, DriftEvidence
from shared.pipeline import OnDrift
from shared.profiles import OUTPUT_FEATURES

EXAMPLES = 20
# Of a window; more make the comparison of embeddings hardly sharper, and each has to be embedded.
TEXTS = 200


class State(BaseModel):
    """Base of the parts of the state: immutable, and readable by a newer version."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Measured(State):
    """A feature's last window, and its detector.

    Attributes:
        windows: since the detector was last reset.
    """

    statistic: float
    threshold: float
    p_value: float
    evidence: float
    window_samples: int
    reference_samples: int
    windows: int
    largest: list[BucketShare] = Field(default_factory=list)
    at: datetime


class Window(State):
    """What was counted since the last comparison.

    Attributes:
        examples: ids of the first requests.
        texts: the users' last messages, where embeddings are compared; else empty.
    """

    samples: int = 0
    counts: dict[str, list[int]] = Field(default_factory=dict)
    examples: list[str] = Field(default_factory=list)
    texts: list[str] = Field(default_factory=list)
    began: datetime | None = None
    ended: datetime | None = None


class SeriesState(State):
    """Everything that is remembered about a model version on a route."""

    windows: int = 0
    samples: int = 0
    window: Window = Field(default_factory=Window)
    features: dict[str, Measured] = Field(default_factory=dict)
    alarm_at: datetime | None = None


@dataclass(frozen=True)
class Sample:
    """One sample in its buckets, by feature; with its text where embeddings are compared."""

    request_id: str
    at: datetime
    places: Mapping[str, int]
    text: str | None = None


def take(state: SeriesState, sample: Sample, reference: Mapping[str, Distribution]) -> SeriesState:
    """Count one sample."""
    window = state.window
    counts = dict(window.counts)
    for feature, place in sample.places.items():
        row, buckets = counts.get(feature, []), len(reference[feature].counts)
        # Other buckets: the evaluation's reference of answers came after samples that stand in those of the dataset.
        row = list(row) if len(row) == buckets else [0] * buckets
        row[place] += 1
        counts[feature] = row
    examples = [*window.examples, sample.request_id] if len(window.examples) < EXAMPLES else window.examples
    times = [time for time in (window.began, window.ended, sample.at) if time is not None]
    return state.model_copy(update={
        "samples": state.samples + 1,
        "window": Window(
            samples=window.samples + 1, counts=counts, examples=examples, began=min(times), ended=max(times),
            texts=window.texts if sample.text is None else [*window.texts, sample.text][:TEXTS],
        ),
    })


def is_full(state: SeriesState, policy: OnDrift) -> bool:
    """Whether the window is to be closed."""
    return state.window.samples >= policy.window_samples


def close(state: SeriesState, reference: Mapping[str, Distribution], now: datetime) -> SeriesState:
    """Compare a full window with the reference, and begin the next one."""
    compared = {
        feature: compare(reference[feature].labels, reference[feature].counts, counts)
        for feature, counts in state.window.counts.items() if feature in reference
    }
    for feature, found in compared.items():
        if found is not None:
            state = measured(state, feature, found, now)
    return state.model_copy(update={"windows": state.windows + 1, "window": Window()})


def measured(state: SeriesState, feature: str, found: Comparison, now: datetime) -> SeriesState:
    """Move a feature's detector by what was found in a window."""
    before = state.features.get(feature)
    after = Measured(
        statistic=found.statistic, threshold=found.threshold, p_value=found.p_value, window_samples=found.window,
        reference_samples=found.reference, largest=found.largest, at=now,
        evidence=detector.detect(before.evidence if before else 0.0, found.p_value),
        windows=(before.windows if before else 0) + 1,
    )
    return state.model_copy(update={"features": {**state.features, feature: after}})


def alarm(state: SeriesState, policy: OnDrift, now: datetime) -> tuple[SeriesState, list[DriftEvidence]]:
    """Whether to say that there is drift, with the evidence, the most of it first.

    An alarm resets all detectors: what follows is found anew. Within the cooldown there is none, and the evidence goes
    on growing, so that drift which lasts is said again when the cooldown is over.
    """
    bound = alarm_threshold(state, policy)
    over = [name for name in watched(state, policy) if state.features[name].evidence >= bound]
    if not over or (state.alarm_at is not None and now - state.alarm_at < policy.cooldown):
        return state, []
    over.sort(key=lambda name: -state.features[name].evidence)
    evidence = [_evidence(name, state.features[name], bound) for name in over]
    reset = {
        name: feature.model_copy(update={"evidence": 0.0, "windows": 0}) for name, feature in state.features.items()
    }
    return state.model_copy(update={"features": reset, "alarm_at": now}), evidence


def watched(state: SeriesState, policy: OnDrift) -> list[str]:
    """The measured features that can raise an alarm."""
    return [name for name in state.features if policy.features is None or name in policy.features]


def alarm_threshold(state: SeriesState, policy: OnDrift) -> float:
    """What a detector must reach for an alarm of this series."""
    return detector.threshold(policy.average_run, len(watched(state, policy)))


def _evidence(name: str, feature: Measured, bound: float) -> DriftEvidence:
    return DriftEvidence(
        feature=name, kind="output" if name in OUTPUT_FEATURES else "input", evidence_threshold=bound,
        **feature.model_dump(exclude={"at"}),
    )
