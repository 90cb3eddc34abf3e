"""The commands that ask the registry, against its real API."""

import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.registry.handlers import handlers
from tests.support import facts
from tests.support.delivery import deliver, fact, receive

pytestmark = pytest.mark.integration


@pytest.fixture
def tuneloop(run: Any, registry: Any) -> Any:
    return partial(run, TUNELOOP_REGISTRY_URL=registry.url)


@pytest.fixture
def spec() -> str:
    Path("pipeline.yaml").write_text(facts.PIPELINE)
    return "pipeline.yaml"


@pytest.fixture
def whole_loop(tuneloop: Any, spec: str, registry: Any) -> None:
    assert tuneloop("apply", spec).exit_code == 0
    deliver(registry.engine, handlers, fact(facts.published()), fact(facts.prepared(), sequence=2),
            fact(facts.started()), fact(facts.progressed(), sequence=2), fact(facts.completed(), sequence=3),
            fact(facts.evaluated()), fact(facts.promoted("intents@1")))


def answer(result: Any) -> Any:
    """The JSON on stdout; nothing may be beside it."""
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_apply_creates_then_changes_nothing_then_changes(tuneloop: Any, spec: str) -> None:
    assert "created" in tuneloop("apply", spec).stdout
    assert "unchanged" in tuneloop("apply", spec).stdout
    Path("other.yaml").write_text(facts.PIPELINE.replace("tiny}", "tiny, training: {epochs: 3}}"))
    [item] = answer(tuneloop("apply", "other.yaml", "-o", "json"))["items"]
    assert (item["file"], item["name"], item["version"], item["changed"]) == ("other.yaml", "intents", 2, True)
    assert answer(tuneloop("pipelines", "get", "intents", "-o", "json"))["spec"]["training"]["epochs"] == 3.0
    assert answer(tuneloop("pipelines", "get", "intents", "--version", "1", "-o", "json"))["version"] == 1


@pytest.mark.usefixtures("whole_loop")
def test_a_runs_checklist_is_shown(tuneloop: Any) -> None:
    shown = tuneloop("runs", "checklist", "run-1").stdout
    for word in ("before", "during", "after", "production", "there are enough rows", "70 rows to train on", "not_run"):
        assert word in shown
    items = answer(tuneloop("runs", "checklist", "run-1", "-o", "json"))["checks"]
    assert {item["state"] for item in items} == {"passed", "failed", "not_run", "not_applicable"}
    assert tuneloop("runs", "checklist", "run-9").exit_code == 3


def test_apply_several_files_at_once(tuneloop: Any, spec: str) -> None:
    Path("second.yaml").write_text(facts.PIPELINE.replace("intents", "second"))
    items = answer(tuneloop("apply", spec, "second.yaml", "-o", "json"))["items"]
    assert [item["name"] for item in items] == ["intents", "second"]
    assert [item["name"] for item in answer(tuneloop("pipelines", "-o", "json"))["items"]] == ["second", "intents"]


def test_a_bad_file_among_good_ones_applies_none(tuneloop: Any, spec: str) -> None:
    Path("bad.yaml").write_text(facts.PIPELINE.replace("baseModel: tiny", "baseModel: tiny, trainign: {}"))
    result = tuneloop("apply", spec, "bad.yaml")
    assert result.exit_code == 1
    assert "bad.yaml: spec.trainign: unknown key" in result.stderr
    assert answer(tuneloop("pipelines", "-o", "json"))["items"] == []


def test_what_the_registry_refuses_is_1_with_its_words(tuneloop: Any, spec: str) -> None:
    tuneloop("apply", spec)
    Path("thief.yaml").write_text(
        facts.PIPELINE.replace("name: intents", "name: thief").replace("tiny}", "tiny, rollout: {route: intents}}"))
    result = tuneloop("apply", "thief.yaml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("error: pipeline 'thief': route 'intents' belongs to pipeline 'intents'; "
                             "choose another spec.rollout.route\n")


@pytest.mark.parametrize(("arguments", "words"), [
    (("pipelines",), ("intents", "intents@1", "tiny")),
    (("datasets",), ("data-1", "good.jsonl", "prepared", "70 train, 10 validation, 20 test")),
    (("datasets", "get", "data-1"), ("s3://tuneloop/raw/data-1/data.jsonl", "2 duplicate", "sha256:" + "c" * 64)),
    (("runs",), ("run-1", "intents v1", "completed", "40/40", "0.500")),
    (("runs", "get", "run-1"), ("train-run-1-1", "metric validation_loss", "0.2500")),
    (("evaluations",), ("eval-1", "passed", "1 of 1")),
    (("evaluations", "get", "eval-1"), ("EXACT_MATCH", "candidate", "0.900", "exact_match >= 0.5", "0.9 >= 0.5")),
    (("models",), ("intents@1", "production", "every guardrail is safe")),
    (("models", "get", "intents@1"), (facts.artifact("adapters", 1).digest, facts.BASE_DIGEST)),
    (("models", "lineage", "intents@1"), ("source", "s3://tuneloop/raw/data-1/data.jsonl", "pipeline intents v1",
                                          facts.artifact("datasets", 1).digest, "promoted")),
    (("pipelines", "get", "intents"), ("baseModel: tiny", "team=support")),
])
def test_tables_say_what_is_there(tuneloop: Any, whole_loop: None, arguments: tuple[str, ...], words: Any) -> None:
    result = tuneloop(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    for word in words:
        assert word in result.stdout


@pytest.mark.parametrize("arguments", [
    ("pipelines",), ("datasets",), ("runs",), ("evaluations",), ("models",), ("models", "lineage", "intents@1"),
    ("runs", "get", "run-1"), ("evaluations", "get", "eval-1"), ("datasets", "get", "data-1"),
])
def test_json_and_yaml_say_the_same(tuneloop: Any, whole_loop: None, arguments: tuple[str, ...]) -> None:
    as_json = answer(tuneloop(*arguments, "-o", "json"))
    assert as_json
    assert yaml.safe_load(tuneloop(*arguments, "-o", "yaml").stdout) == as_json


def test_empty_lists_say_how_to_fill_them(tuneloop: Any) -> None:
    assert tuneloop("pipelines").stdout == "no pipelines; `tuneloop apply FILE` makes one\n"
    assert "no model versions" in tuneloop("models").stdout
    assert answer(tuneloop("models", "-o", "json")) == {"items": [], "next": None}


@pytest.mark.parametrize(("arguments", "message"), [
    (("runs", "get", "x"), "there is no run 'x'"),
    (("runs", "get", "x", "-w"), "there is no run 'x'"),
    (("models", "get", "x@1"), "there is no model version 'x@1'"),
    (("models", "lineage", "a/b"), "registry"),
    (("datasets", "get", "../pipelines"), "registry"),
    (("pipelines", "get", "x"), "there is no pipeline 'x'; `tuneloop apply` makes one"),
])
def test_what_does_not_exist_is_3(tuneloop: Any, arguments: tuple[str, ...], message: str) -> None:
    result = tuneloop(*arguments, "-o", "json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_a_wrong_filter_is_refused_with_its_name(tuneloop: Any) -> None:
    result = tuneloop("models", "--stage", "nonsense")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: stage: Input should be 'candidate'")


def test_a_server_that_is_not_tuneloop(run: Any, registry: Any) -> None:
    result = run("models", "--registry-url", registry.url + "/docs")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: registry ({registry.url}/docs/v1/models?limit=50) answered 404 Not Found")


def test_watching_a_run_until_it_fails(tuneloop: Any, registry: Any) -> None:
    deliver(registry.engine, handlers, fact(facts.started()))
    results: list[Any] = []
    watcher = threading.Thread(target=lambda: results.append(tuneloop("runs", "get", "run-1", "-w", "-o", "json")))
    watcher.start()
    deliver(registry.engine, handlers, fact(facts.progressed(), sequence=2))
    deliver(registry.engine, handlers, fact(facts.failed(), sequence=3))
    watcher.join(60)
    [result] = results
    assert result.exit_code == 5
    assert json.loads(result.stdout)["state"] == "failed"
    assert result.stderr.splitlines()[-2:] == [
        "failed, attempt 3, step 10/40, loss 0.500", "error: run run-1 failed: out of memory at step 12",
    ]


def test_watching_a_run_that_is_complete(tuneloop: Any, whole_loop: None) -> None:
    result = tuneloop("runs", "get", "run-1", "-w")
    assert result.exit_code == 0
    assert "completed" in result.stdout
    assert tuneloop("runs", "-w").stderr == "nothing runs\n"


def test_a_dead_event_is_listed_and_let_in_again(tuneloop: Any, registry: Any) -> None:
    deliver(registry.engine, handlers, fact(facts.evaluated()))
    [item] = answer(tuneloop("inbox", "list", "-s", "registry", "-o", "json"))["items"]
    assert (item["service"], item["type"], item["status"]) == ("registry", "evaluation.completed.v1", "dead")
    assert "never applied here" in tuneloop("inbox", "-s", "registry").stdout
    Path("late.yaml").write_text(facts.PIPELINE)
    tuneloop("apply", "late.yaml")
    assert answer(tuneloop("inbox", "requeue", "registry", str(item["seq"]), "-o", "json"))["status"] == "pending"
    deliver(registry.engine, handlers)
    assert [m["model_version"] for m in answer(tuneloop("models", "-o", "json"))["items"]] == ["intents@1"]
    again = tuneloop("inbox", "requeue", "registry", str(item["seq"]))
    assert again.exit_code == 1
    assert "is done; it cannot be handled again" in again.stderr
    assert tuneloop("inbox", "requeue", "registry", "999").exit_code == 3


def test_pending_events_are_listed_too(tuneloop: Any, registry: Any) -> None:
    receive(registry.engine, handlers, [fact(facts.published())])
    items = answer(tuneloop("inbox", "-s", "registry", "--status", "pending", "-o", "json"))["items"]
    assert [item["key"] for item in items] == ["data-1"]


def test_an_inbox_list_with_a_silent_service_says_so(tuneloop: Any, registry: Any, rollout: Any) -> None:
    names = ("DATA_INGEST", "TRAINER", "EVALUATOR", "DRIFT", "SERVING")
    others = {f"TUNELOOP_{name}_URL": rollout.url for name in names}
    assert tuneloop("inbox", TUNELOOP_ROLLOUT_URL=rollout.url, **others).stdout == "no dead events\n"
    silent = tuneloop("inbox", "-o", "json", TUNELOOP_ROLLOUT_URL="http://127.0.0.1:9", **others)
    assert (silent.exit_code, json.loads(silent.stdout)) == (4, {"items": []})
    assert silent.stderr.startswith("warning: the rollout service at http://127.0.0.1:9 does not answer")


def test_services_are_found_through_the_stack_file(run: Any, registry: Any, tmp_path: Path) -> None:
    Path(".tuneloop").mkdir()
    Path(".tuneloop/stack.json").write_text(json.dumps({"services": {"registry": {"url": registry.url}}}))
    assert answer(run("models", "-o", "json"))["items"] == []
