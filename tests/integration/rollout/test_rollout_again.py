"""Undo and retry, from the door to the route table, on SQLite and PostgreSQL."""

import pytest

from services.rollout import again
from services.rollout.models import Rollout
from shared.db import transaction
from shared.errors import ConflictError, NotFoundError
from tests.support.rollout_stand import Stand, model_registered

pytestmark = pytest.mark.integration


def undo(controller: Stand, to: str | None = None) -> str:
    with transaction(controller.engine) as session:
        return again.undo(session, "intents", to=to, by="ada", reason="smells", now=controller.clock.now()).id


def retry(controller: Stand, rollout: str) -> str:
    with transaction(controller.engine) as session:
        return again.retry(session, rollout, by="ada", reason="once more", now=controller.clock.now()).id


@pytest.fixture
def two(controller: Stand) -> Stand:
    """Version 1, then version 2 is stable."""
    controller.begin()
    controller.load()
    controller.run(60)
    controller.hear(model_registered(2))
    controller.load(2)
    controller.run(60)
    assert (controller.phase(), controller.phase("intents-r2")) == ("promoted", "promoted")
    return controller


def test_inside_the_window_it_is_back_as_soon_as_it_is_loaded(two: Stand) -> None:
    assert undo(two) == "intents-r1-2"
    two.prometheus.fault = "hang"  # no analysis, so nothing of it is needed
    two.client._timeout = 0.1
    two.look()
    assert two.weights()[-1] == {"intents@2": 10_000, "intents@1": 0}
    two.prometheus.fault = None
    two.load()
    two.run(4)
    assert two.phase("intents-r1-2") == "promoted"
    assert two.weights()[-2:] == [{"intents@2": 0, "intents@1": 10_000}, {"intents@1": 10_000}]
    told = two.told("rollout.promoted.v1")[-1]
    assert (told["model_version"], told["previous"], told["attempt"]) == ("intents@1", "intents@2", 2)
    first = two.decisions("intents-r1-2")[0]
    assert (first.action, first.by) == ("undo", "ada")
    assert first.reason == (
        "undo by ada: smells; the route goes back from intents@2 to intents@1, inside the rollback window"
    )


def test_outside_the_window_it_goes_through_the_steps(two: Stand) -> None:
    two.clock.advance(3601)
    undo(two, "intents@1")
    two.load()
    two.run(60)
    assert two.phase("intents-r1-2") == "promoted"
    assert [weights.get("intents@1") for weights in two.weights()[-5:]] == [0, 2000, 5000, 10_000, 10_000]
    assert "with a new analysis, because it was replaced 36" in two.decisions("intents-r1-2")[0].reason


def test_an_undo_supersedes_what_is_in_flight_and_a_newer_version_supersedes_an_undo(two: Stand) -> None:
    two.hear(model_registered(3))
    two.load(3)
    two.run(12)
    assert two.phase("intents-r3") == "progressing"
    undo(two)
    two.load()
    two.run(10)
    assert (two.phase("intents-r3"), two.phase("intents-r1-2")) == ("superseded", "promoted")
    undo(two)
    two.look()
    two.hear(model_registered(4))
    two.load(4)
    two.run(60)
    assert (two.phase("intents-r2-2"), two.phase("intents-r4")) == ("superseded", "promoted")
    assert two.weights()[-1] == {"intents@4": 10_000}


def test_what_cannot_be_undone_is_said(two: Stand) -> None:
    for to, kind, words in (
        ("intents@2", ConflictError, "intents@2 is the stable version already"),
        ("intents@9", NotFoundError, "intents@9 was never its stable version; earlier ones: intents@1"),
    ):
        with pytest.raises(kind, match=words):
            undo(two, to)
    undo(two)
    two.look()
    with pytest.raises(ConflictError, match="intents-r1-2 is taking it to intents@1 already"):
        undo(two)


def test_a_retry_begins_anew_and_may_end_otherwise(controller: Stand) -> None:
    controller.begin()
    controller.load()
    controller.bad_share = 0.4
    controller.run(40)
    assert controller.phase() == "rolled_back"
    controller.bad_share = 0.0
    assert retry(controller, "intents-r1") == "intents-r1-2"
    with pytest.raises(ConflictError, match=r"the route has a newer rollout, intents-r1-2 \(staging\)"):
        retry(controller, "intents-r1")
    controller.run(90)
    assert controller.phase("intents-r1-2") == "promoted"
    with pytest.raises(ConflictError, match="it was promoted; `tuneloop rollouts undo intents --to intents@1`"):
        retry(controller, "intents-r1-2")
    with transaction(controller.engine) as session:
        row = session.get(Rollout, "intents-r1")
        assert row is not None
        assert row.state == "rolled_back"
