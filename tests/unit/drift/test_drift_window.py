"""The watch over one model version: counts, comparisons, alarms and cooldown, in virtual time."""

from datetime import timedelta

import pytest

from services.drift import window
from services.drift.window import Sample, SeriesState
from shared.events import Distribution, DriftEvidence
from shared.pipeline import OnDrift
from tests.support.delivery import START

REFERENCE = {
    "language": Distribution(labels=["en", "de"], counts=[500, 500]),
    "topic": Distribution(labels=["a", "b"], counts=[500, 500]),
}
POLICY = OnDrift(window_samples=100, average_run=1000, cooldown=timedelta(hours=1))


def filled(state: SeriesState, *, german: int, hour: float = 0.0) -> SeriesState:
    """One window more: `german` of 100 in another language, topics as ever."""
    for number in range(100):
        places = {"language": int(number < german), "topic": number % 2}
        state = window.take(state, Sample(f"r{number}", START + timedelta(hours=hour), places), REFERENCE)
    assert window.is_full(state, POLICY)
    return state


def step(state: SeriesState, *, german: int, hour: float = 0.0) -> tuple[SeriesState, list[DriftEvidence]]:
    now = START + timedelta(hours=hour)
    return window.alarm(window.close(filled(state, german=german, hour=hour), REFERENCE, now), POLICY, now)


def until_alarm(state: SeriesState, *, german: int, hour: float = 0.0) -> tuple[SeriesState, list[DriftEvidence], int]:
    for count in range(1, 50):
        state, evidence = step(state, german=german, hour=hour)
        if evidence:
            return state, evidence, count
    pytest.fail("no alarm in 50 windows")


def test_what_is_alike_raises_nothing() -> None:
    state = SeriesState()
    for _ in range(300):
        state, evidence = step(state, german=50)
        assert evidence == []
    assert (state.windows, state.samples, state.window.samples) == (300, 30_000, 0)


def test_the_feature_that_moved_raises_the_alarm_with_its_numbers() -> None:
    state, evidence, count = until_alarm(SeriesState(), german=95)
    (said,) = evidence
    assert (said.feature, said.kind, said.window_samples, said.reference_samples) == ("language", "input", 100, 1000)
    assert said.evidence >= said.evidence_threshold == 2000
    assert said.statistic > said.threshold
    assert said.windows == count <= 4
    assert {(share.bucket, share.reference, share.window) for share in said.largest} == {
        ("en", 0.5, 0.05), ("de", 0.5, 0.95),
    }
    assert state.features["topic"].evidence == state.features["language"].evidence == 0.0


def test_within_the_cooldown_there_is_no_second_alarm_and_drift_that_lasts_is_said_again_after_it() -> None:
    state, _, _ = until_alarm(SeriesState(), german=95)
    for _ in range(20):
        state, evidence = step(state, german=95, hour=0.5)
        assert evidence == []
    state, evidence = step(state, german=95, hour=1.0)
    assert [item.feature for item in evidence] == ["language"]


def test_only_the_features_of_the_policy_raise_an_alarm_and_all_are_measured() -> None:
    only_topic = POLICY.model_copy(update={"features": ["topic"]})
    state = SeriesState()
    for _ in range(20):
        state = window.close(filled(state, german=95), REFERENCE, START)
        state, evidence = window.alarm(state, only_topic, START)
        assert evidence == []
    assert window.watched(state, only_topic) == ["topic"]
    assert state.features["language"].evidence > 1e6


def test_the_state_does_not_grow() -> None:
    state, _ = step(SeriesState(), german=50)
    small = len(state.model_dump_json())
    for _ in range(30):
        state, _ = step(state, german=50)
    assert len(state.model_dump_json()) < small + 100
    assert len(filled(state, german=50).window.examples) == window.EXAMPLES


def test_the_state_survives_json() -> None:
    state = filled(step(SeriesState(), german=60)[0], german=10)
    assert SeriesState.model_validate_json(state.model_dump_json()) == state


def test_buckets_that_changed_are_counted_anew() -> None:
    state = window.take(SeriesState(), Sample("r", START, {"topic": 1}), REFERENCE)
    wider = {"topic": Distribution(labels=["a", "b", "c"], counts=[1, 2, 3])}
    state = window.take(state, Sample("r", START, {"topic": 2}), wider)
    assert state.window.counts == {"topic": [0, 0, 1]}
