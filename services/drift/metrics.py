"""Prometheus metrics: each feature of each watched model version, and what became of the samples."""

from prometheus_client import Counter, Gauge

from services.drift.window import SeriesState, alarm_threshold
from shared.pipeline import OnDrift

_LABELS = ["route", "model_version", "feature"]
STATISTIC = Gauge("tuneloop_drift_statistic", "PSI of the last window; MMD for embeddings", _LABELS)
THRESHOLD = Gauge("tuneloop_drift_threshold", "What 99 of 100 windows without drift stay below", _LABELS)
P_VALUE = Gauge("tuneloop_drift_p_value", "Of the last window", _LABELS)
EVIDENCE = Gauge("tuneloop_drift_evidence", "The detector's value", _LABELS)
EVIDENCE_THRESHOLD = Gauge("tuneloop_drift_evidence_threshold", "The detector's value that raises an alarm", _LABELS)
SAMPLES = Counter(
    "tuneloop_drift_samples", "Samples by what became of them: counted, duplicate, or why not", ["route", "outcome"]
)
WINDOWS = Counter("tuneloop_drift_windows", "Windows that were compared", ["route"])
ALARMS = Counter("tuneloop_drift_alarms", "Alarms, by the feature with the most evidence", ["route", "feature"])


def begin(route: str) -> None:
    """A route is known: its series exist at 0 before the first change, which `increase` would not see otherwise."""
    SAMPLES.labels(route, "counted")
    WINDOWS.labels(route)


def publish(route: str, model_version: str, state: SeriesState, policy: OnDrift) -> None:
    """Show where a series stands."""
    bound = alarm_threshold(state, policy)
    for name, feature in state.features.items():
        labels = (route, model_version, name)
        STATISTIC.labels(*labels).set(feature.statistic)
        THRESHOLD.labels(*labels).set(feature.threshold)
        P_VALUE.labels(*labels).set(feature.p_value)
        EVIDENCE.labels(*labels).set(feature.evidence)
        EVIDENCE_THRESHOLD.labels(*labels).set(bound)
        ALARMS.labels(route, name)
