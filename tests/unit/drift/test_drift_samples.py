"""From records to windows and facts, on SQLite, with a broker that lets the process die at every write."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine
from sqlmodel import func, select

import services.drift
from services.drift import samples as module
from services.drift.handlers import handlers
from services.drift.models import Base, SeenSample, Series
from services.drift.references import NoReferenceError
from services.drift.window import SeriesState
from services.rollout.handlers import handlers as rollout_handlers
from shared.db import reading
from shared.errors import TemporaryError
from shared.events import DriftDetected, Topic, payload_types
from shared.messaging.broker import Outgoing
from tests.support import drift, facts
from tests.support.crash import Crash, CrashPlan, watch_commits
from tests.support.db import assert_migrations_match, sqlite_engine
from tests.support.delivery import START, deliver, fact, said
from tests.support.drift_stand import Known, Stand

ON_DRIFT = {"action": "retrain", "windowSamples": 100, "averageRun": 100}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


def test_the_migrations_match_the_tables() -> None:
    assert_migrations_match(Path(services.drift.__file__).parent / "migrations", Base.metadata)


def test_drift_is_said_with_its_evidence_and_what_shall_follow(engine: Engine) -> None:
    stand = Stand(engine)
    deliver(engine, handlers, fact(drift.pipeline_applied(onDrift=ON_DRIFT)))
    stand.write(*drift.samples(300), *drift.samples(300, drifted=True, first=300))
    stand.run()
    (found,) = stand.alarms()
    assert said(engine) == [("drift.detected.v1", found.model_dump(mode="json"))]
    assert (found.route, found.pipeline, found.model_version, found.action) == (
        "intents", "intents", "intents@1", "retrain",
    )
    assert found.reference == facts.artifact("datasets", 1).digest
    assert {"language", "topic", "words", "ngrams"} & {item.feature for item in found.evidence}
    assert all(item.evidence >= item.evidence_threshold and item.window_samples == 100 for item in found.evidence)
    assert found.window_began >= START
    assert set(found.examples) <= {f"request-{number}" for number in range(300, 600)}
    assert stand.series().windows == 6


def test_what_is_like_the_dataset_raises_nothing(engine: Engine) -> None:
    stand = Stand(engine)
    deliver(engine, handlers, fact(drift.pipeline_applied(onDrift=ON_DRIFT)))
    stand.write(*drift.samples(1000))
    stand.run()
    assert (stand.series().windows, stand.alarms()) == (10, [])


def written(engine: Engine) -> Stand:
    """Samples that drift, for a loop that has not read them."""
    stand = Stand(engine)
    deliver(engine, handlers, fact(drift.pipeline_applied(onDrift={**ON_DRIFT, "windowSamples": 50})))
    stand.write(*drift.samples(60), *drift.samples(90, drifted=True, first=60))
    return stand


@pytest.fixture(scope="module")
def undisturbed() -> tuple[SeriesState, list[DriftDetected]]:
    """What becomes of them where nothing crashes."""
    with sqlite_engine(Base.metadata) as engine:
        stand = written(engine)
        stand.run()
        return stand.series(), stand.alarms()


@pytest.mark.parametrize("point", range(1, 9))
def test_a_crash_at_any_write_loses_no_sample_counts_none_twice_and_says_drift_once(
    engine: Engine, point: int, undisturbed: tuple[SeriesState, list[DriftDetected]]
) -> None:
    disturbed = written(engine)
    plan = CrashPlan(at=(point, point + 7, point + 20))
    disturbed.broker.hit = plan.hit
    watch_commits(engine, plan.hit)
    deaths = 0
    while True:
        try:
            disturbed.run()
        except Crash:
            deaths += 1
            continue
        break
    assert (disturbed.series(), disturbed.alarms()) == undisturbed
    assert deaths == 3
    assert len(said(engine)) == 1
    assert disturbed.series().samples == 150


def test_a_sample_that_is_delivered_twice_is_counted_once_also_in_one_batch(engine: Engine) -> None:
    stand = Stand(engine)
    (one,) = drift.samples(1)
    stand.write(one, one)
    stand.run()
    stand.write(one)
    stand.run()
    assert stand.series().samples == 1


def test_what_was_seen_long_ago_is_forgotten(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 50)
    stand = Stand(engine)
    stand.write(*drift.samples(300))
    stand.run()
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(SeenSample)).one() == 50


def test_who_cannot_be_compared_is_counted_by_reason(engine: Engine) -> None:
    stand = Stand(engine, Known({"intents@7": NoReferenceError("the dataset data-7 has no profile.json")}))
    stand.write(*drift.samples(3, version=None), *drift.samples(2, version="intents@99", first=10),
                *drift.samples(1, version="intents@7", first=20))
    before = {name: _count(name) for name in ("base_model", "unknown_version", "no_reference")}
    stand.run()
    assert {name: _count(name) - before[name] for name in before} == {
        "base_model": 3, "unknown_version": 2, "no_reference": 1,
    }
    with reading(engine) as session:
        assert session.get_one(Series, "intents@7").problem == "the dataset data-7 has no profile.json"


def _count(outcome: str) -> float:
    labels = {"route": "intents", "outcome": outcome}
    return REGISTRY.get_sample_value("tuneloop_drift_samples_total", labels) or 0.0


def test_samples_wait_for_s3(engine: Engine) -> None:
    stand = Stand(engine, Known({"intents@1": TemporaryError("S3 is away")}))
    stand.write(*drift.samples(5))
    with pytest.raises(TemporaryError, match="S3 is away"):
        stand.run()
    stand.references.problems.clear()
    stand.run()
    assert stand.series().samples == 5


def test_a_record_that_is_no_event_is_set_aside(engine: Engine) -> None:
    stand = Stand(engine)
    stand.broker.append(Outgoing(Topic.SAMPLES.value, b"k", b"no event", ()))
    stand.write(*drift.samples(2))
    stand.run()
    assert stand.series().samples == 2


def test_gauges_show_every_feature(engine: Engine) -> None:
    stand = Stand(engine)
    deliver(engine, handlers, fact(drift.pipeline_applied(onDrift=ON_DRIFT)))
    stand.write(*drift.samples(100, version="intents@4"))
    stand.run()
    for feature in ("prompt_length", "words", "ngrams", "language", "topic", "answer_length"):
        labels = {"route": "intents", "model_version": "intents@4", "feature": feature}
        assert REGISTRY.get_sample_value("tuneloop_drift_statistic", labels) is not None
        assert REGISTRY.get_sample_value("tuneloop_drift_evidence_threshold", labels) == 600


def test_nobody_who_moves_traffic_hears_of_drift() -> None:
    """Drift is no proof of harm: nothing is rolled back for it."""
    assert set(DriftDetected.CONSUMERS) == {"evaluator", "trainer"}
    assert DriftDetected.TOPIC.value not in rollout_handlers.topics
    on_the_way_to_traffic = [cls for cls in payload_types().values() if "rollout" in cls.CONSUMERS]
    assert {cls.PRODUCER for cls in on_the_way_to_traffic} == {"gateway", "registry", "serving"}
