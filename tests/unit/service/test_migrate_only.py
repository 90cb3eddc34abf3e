"""How a service begins, and ``--migrate``, which runs before an upgrade: both say what went wrong."""

from pathlib import Path

import pytest
from sqlalchemy import inspect, text

import shared.service
from services.registry.__main__ import DEFINITION
from shared.db import connect
from shared.service import run


@pytest.fixture(autouse=True)
def _logs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would set up logging for the whole process, which is that of all tests."""
    monkeypatch.setattr(shared.service, "configure", lambda _: None)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/registry.db"
    monkeypatch.setenv("TUNELOOP_DATABASE_URL", url)
    return url


def test_it_makes_the_tables_and_ends_and_may_be_repeated(database: str) -> None:
    assert [run(DEFINITION, ["--migrate"]), run(DEFINITION, ["--migrate"])] == [0, 0]
    engine = connect(database)
    assert {"inbox", "outbox", "alembic_version"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_alone(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DEFINITION, ["--migrate"]) == 0
    engine = connect(database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert run(DEFINITION, ["--migrate"]) == 1
    assert "registry: cannot migrate" in (said := capsys.readouterr().err)
    assert "9999" in said


@pytest.mark.parametrize("arguments", [["--migrate"], []])
def test_a_database_that_is_away_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("TUNELOOP_DATABASE_URL", "postgresql://tuneloop:hidden@127.0.0.1:1/registry")
    assert run(DEFINITION, arguments) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:1/registry" in said
    assert "hidden" not in said


def test_an_s3_that_cannot_be_asked_is_told_at_the_start(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNELOOP_S3_CA_FILE", "/no/ca.crt")
    assert run(DEFINITION, []) == 2
    assert "registry: cannot start, the settings are wrong: TUNELOOP_S3_CA_FILE=/no/ca.crt" in capsys.readouterr().err


def test_an_unknown_argument_is_refused(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DEFINITION, ["--migrat"]) == 2
    assert "--migrat" in capsys.readouterr().err
