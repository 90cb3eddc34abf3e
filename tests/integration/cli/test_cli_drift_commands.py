"""`tuneloop drift` over the drift service's real API."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from services.cli.app import build_app
from services.drift.api import build_router
from services.drift.handlers import handlers
from services.drift.models import Base
from services.drift.settings import DriftSettings
from tests.support import drift
from tests.support.apps import app_of
from tests.support.db import sqlite_engine
from tests.support.delivery import deliver, fact
from tests.support.drift_stand import Stand
from tests.support.http import served

ON_DRIFT = {"action": "retrain", "windowSamples": 100, "averageRun": 100, "features": ["language", "answer_length"]}


@pytest.fixture
def url() -> Iterator[str]:
    with sqlite_engine(Base.metadata) as engine, served(app_of(DriftSettings(), build_router, engine)) as address:
        deliver(engine, handlers, fact(drift.pipeline_applied(onDrift=ON_DRIFT)))
        stand = Stand(engine)
        stand.write(*drift.samples(200), *drift.samples(430, drifted=True, first=300))
        stand.run()
        yield address


def run(url: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build_app(), ["drift", *arguments, "--drift-url", url], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_a_route_shows_its_features_and_its_last_alarm(url: str) -> None:
    code, text = run(url, "get", "intents")
    assert code == 0
    assert "630 in 6 windows; 30 of 100 for the next one" in text
    assert "words (no alarm)" in text
    assert "en: 100 > 0 %, de: 0 > 100 %" in text
    assert "intents-1-w" in text


def test_an_alarm_has_everything_that_it_rested_on(url: str) -> None:
    code, text = run(url, "alarms", "intents", "-o", "json")
    (alarm,) = json.loads(text)["items"]
    (evidence,) = alarm["fact"]["evidence"]
    assert (code, alarm["fact"]["action"], evidence["feature"]) == (0, "retrain", "language")
    assert evidence["evidence"] >= evidence["evidence_threshold"] == 200
    assert alarm["fact"]["examples"]
    assert "language" in run(url, "alarms", "intents")[1]


def test_the_list_names_the_feature_with_the_most_evidence(url: str) -> None:
    code, text = run(url, "list")
    assert code == 0
    assert "language" in text
    assert run(url, "-o", "json")[0] == 0


@pytest.mark.parametrize("command", ["get", "alarms"])
def test_an_unknown_route_is_3(url: str, command: str) -> None:
    code, text = run(url, command, "nope")
    assert code == 3
    assert "there is no route 'nope'" in text
