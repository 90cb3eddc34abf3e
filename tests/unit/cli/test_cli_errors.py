"""Exit codes and messages where no service is needed to go wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.app import build_app
from tests.support.ports import free_port

GOOD = "apiVersion: tuneloop.dev/v1\nkind: Pipeline\nmetadata: {name: p}\nspec: {baseModel: tiny}\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack of the developer's own."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(build_app(), list(arguments), env=environment, prog_name="tuneloop")


def one_line(result: Any) -> str:
    """The only line on stderr; nothing may be on stdout."""
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    [line] = result.stderr.splitlines()
    return str(line)


def write_stack(content: str) -> None:
    Path(".tuneloop").mkdir()
    Path(".tuneloop/stack.json").write_text(content)


def test_without_a_stack_it_says_what_to_do() -> None:
    result = run("models")
    assert result.exit_code == 2
    line = one_line(result)
    assert line.startswith("error: no stack here (")
    assert line.endswith(".tuneloop/stack.json does not exist): run `tuneloop up`, or set TUNELOOP_REGISTRY_URL")


def test_a_stack_file_that_does_not_know_the_service() -> None:
    write_stack(json.dumps({"services": {}}))
    result = run("rollouts")
    assert result.exit_code == 2
    assert "stack.json does not say where the rollout service is: run `tuneloop up`" in one_line(result)


def test_a_damaged_stack_file_is_named() -> None:
    write_stack("{")
    result = run("models")
    assert result.exit_code == 1
    assert "stack.json is damaged" in one_line(result)


def test_a_url_that_is_none() -> None:
    result = run("models", TUNELOOP_REGISTRY_URL="registry:8080")
    assert result.exit_code == 2
    assert one_line(result) == ("error: --registry-url or TUNELOOP_REGISTRY_URL: 'registry:8080' is not a URL; "
                                "it must begin with http:// or https://")


def test_a_service_that_does_not_answer() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run("models", "--registry-url", url)
    assert result.exit_code == 4
    line = one_line(result)
    assert line.startswith(f"error: the registry service at {url} does not answer (")
    assert line.endswith("is it running (`tuneloop status`), and is TUNELOOP_REGISTRY_URL right?")


def test_the_stack_file_is_found_in_tuneloop_home(tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    url = f"http://127.0.0.1:{free_port()}"
    (home / "stack.json").write_text(json.dumps({"services": {"registry": {"url": url}}}))
    result = run("models", TUNELOOP_HOME=str(home))
    assert result.exit_code == 4
    assert url in one_line(result)


@pytest.mark.parametrize(("text", "message"), [
    (GOOD.replace("tiny", "tiny, trainig: {}"), "bad.yaml: spec.trainig: unknown key; see docs/pipeline.md"),
    ("spec: [", "bad.yaml: not valid YAML at line 1, column 8"),
    ("", "bad.yaml: expected a mapping with apiVersion, kind, metadata and spec"),
])
def test_a_bad_pipeline_is_refused_before_anything_is_sent(text: str, message: str) -> None:
    Path("good.yaml").write_text(GOOD)
    Path("bad.yaml").write_text(text)
    # No stack is known here: had it got as far as sending, the error would be another one.
    result = run("apply", "good.yaml", "bad.yaml")
    assert result.exit_code == 1
    assert one_line(result).startswith(f"error: {message}")


def test_a_pipeline_in_another_encoding_is_named() -> None:
    Path("latin.yaml").write_bytes("# Größe\n".encode("latin-1"))
    result = run("apply", "latin.yaml")
    assert result.exit_code == 1
    assert one_line(result) == "error: latin.yaml: not UTF-8: byte 4 cannot be read"


@pytest.mark.parametrize("arguments", [
    ("apply",), ("apply", "missing.yaml"), ("publish", "missing.jsonl", "--pipeline", "p"), ("nonsense",),
    ("models", "list", "-o", "xml"), ("runs", "get"), ("rollouts", "abort", "x"), ("runs", "--limit", "0"),
    ("inbox", "requeue", "registry", "first"),
])
def test_a_wrong_command_line_is_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: tuneloop" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_inbox_of_nobody_is_2() -> None:
    result = run("inbox", "list", "--service", "gateway")
    assert result.exit_code == 2
    assert one_line(result) == ("error: no service 'gateway' with an inbox; use one of registry, data_ingest, trainer, "
                                "evaluator, rollout, drift, serving")


def test_help_and_version() -> None:
    assert run("--version").stdout.startswith("tuneloop ")
    result = run("rollouts", "--help")
    assert result.exit_code == 0
    assert "abort" in result.stdout
