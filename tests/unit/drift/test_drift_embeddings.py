"""MMD under the null and under drift, and windows that wait for an embedder which comes and goes."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine
from sqlmodel import select

from services.drift import embed
from services.drift.embed import EmbedReconciler, enqueue
from services.drift.handlers import handlers
from services.drift.mmd import Matrix, compare_embeddings
from services.drift.models import Base, EmbeddingWindow, Series
from services.drift.window import Window
from shared.clock import VirtualClock
from shared.db import reading, transaction
from shared.errors import TemporaryError
from shared.leases import claim
from shared.profiles.text import hash_bucket, words
from shared.reconcile import ReconcileLoop
from tests.support import drift
from tests.support.db import sqlite_engine
from tests.support.delivery import START, deliver, fact, said
from tests.support.drift_stand import Known, Stand

ONLY_EMBEDDINGS = {"windowSamples": 50, "averageRun": 20, "features": ["embeddings"]}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with sqlite_engine(Base.metadata) as made:
        yield made


class WordCounts:
    """An embedder that counts words; `away` lets it fail."""

    def __init__(self) -> None:
        self.away = False

    def embed(self, texts: Sequence[str]) -> Matrix:
        if self.away:
            raise TemporaryError("the embedder is away")
        rows = np.zeros((len(texts), 64))
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                row[hash_bucket(word, 64)] += 1
        return rows


def work(engine: Engine, clock: VirtualClock, embedder: WordCounts) -> None:
    loop = ReconcileLoop(
        name="embeddings", engine=engine, model=EmbeddingWindow, states=(embed.PENDING,), owner="a", clock=clock,
        reconcile=EmbedReconciler(engine, Known(), embedder, clock), interval=1,
    )
    while loop.step():
        pass


def alarms() -> float:
    labels = {"route": "intents", "feature": embed.FEATURE}
    return REGISTRY.get_sample_value("tuneloop_drift_alarms_total", labels) or 0.0


def test_without_drift_small_p_values_are_rare_also_with_one_reference() -> None:
    rng = np.random.default_rng(21)
    small = []
    for _ in range(4):
        reference = rng.normal(size=(100, 8))
        found = [compare_embeddings(reference, rng.normal(size=(60, 8)), seed=seed) for seed in range(8)]
        small += [item.p_value <= 0.1 for item in found if item is not None]
    assert np.mean(small) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / len(small))


def test_a_shift_is_seen_and_the_same_window_gives_the_same_numbers() -> None:
    rng = np.random.default_rng(22)
    reference, window = rng.normal(size=(100, 8)), rng.normal(size=(60, 8)) + 0.8
    found = compare_embeddings(reference, window, seed=1)
    assert found is not None
    assert found.p_value == 0.001
    assert found.statistic > found.threshold
    assert compare_embeddings(reference, window, seed=1) == found


def test_samples_in_runs_do_not_look_like_more_than_they_are() -> None:
    """Twelve clients with five like requests each: single samples would be taken for sixty."""
    rng = np.random.default_rng(23)
    surprised = 0
    for seed in range(12):
        reference = rng.normal(size=(100, 8))
        window = np.repeat(rng.normal(size=(12, 8)), 5, axis=0)
        found = compare_embeddings(reference, window, seed=seed)
        surprised += found is not None and found.p_value <= 0.05
    assert surprised <= 3


def test_too_little_says_nothing() -> None:
    assert compare_embeddings(np.zeros((10, 3)), np.ones((60, 3)), seed=1) is None
    assert compare_embeddings(np.zeros((100, 3)), np.ones((5, 3)), seed=1) is None


def test_drift_of_embeddings_is_said_once_and_no_text_stays(engine: Engine) -> None:
    clock, embedder, stand = VirtualClock(START), WordCounts(), Stand(engine, on_full=enqueue)
    deliver(engine, handlers, fact(drift.pipeline_applied(onDrift=ONLY_EMBEDDINGS)))
    stand.write(*drift.samples(100), *drift.samples(200, drifted=True, first=100))
    stand.run()
    embedder.away = True
    work(engine, clock, embedder)
    assert said(engine) == []
    counted = alarms()
    embedder.away = False
    clock.advance(3600)
    work(engine, clock, embedder)
    (found,) = stand.alarms()
    assert [item.feature for item in found.evidence] == ["embeddings"]
    assert found.examples[0].startswith("request-")
    assert len(said(engine)) == 1
    assert alarms() == counted + 1, "the alert looks at this counter"
    assert stand.series().features["embeddings"].window_samples == 50
    with reading(engine) as session:
        assert session.exec(select(EmbeddingWindow)).all() == []


def test_who_lost_the_lease_moves_no_detector(engine: Engine) -> None:
    clock, stand = VirtualClock(START), Stand(engine, on_full=enqueue)
    deliver(engine, handlers, fact(drift.pipeline_applied(onDrift=ONLY_EMBEDDINGS)))
    stand.write(*drift.samples(50))
    stand.run()
    with transaction(engine) as session:
        slow = claim(session, EmbeddingWindow, states=(embed.PENDING,), owner="slow", now=clock.now(),
                     ttl=clock.now() - clock.now())
    assert slow is not None
    clock.advance(1)
    work(engine, clock, WordCounts())
    assert stand.series().features["embeddings"].windows == 1
    EmbedReconciler(engine, Known(), WordCounts(), clock)(*slow)
    assert stand.series().features["embeddings"].windows == 1


def test_windows_do_not_pile_up_while_the_embedder_is_away(engine: Engine) -> None:
    with transaction(engine) as session:
        row = Series(id="intents@1", route="intents", data={}, updated_at=START)
        for number in range(embed.MAX_WAITING + 10):
            enqueue(session, row, number, Window(samples=50, texts=["a"] * 50))
            session.flush()
    with reading(engine) as session:
        assert len(session.exec(select(EmbeddingWindow)).all()) == embed.MAX_WAITING


def test_without_an_embedder_no_text_is_kept(engine: Engine) -> None:
    stand = Stand(engine)
    stand.write(*drift.samples(10))
    stand.run()
    assert stand.series().window.texts == []
