"""`tuneloop rollouts` against the rollout controller's real API."""

import getpass
import json
import threading
from functools import partial
from typing import Any

import pytest
from sqlmodel import select

from services.rollout.handlers import handlers
from services.rollout.models import CommandRow, Decision, Rollout
from services.rollout.state import RolloutState
from shared.db import reading, transaction
from shared.events import ModelRef, ModelRegistered, Payload, PipelineApplied
from shared.pipeline import parse_pipeline
from tests.support import facts
from tests.support.delivery import START, deliver, fact

pytestmark = pytest.mark.integration


def begin(rollout: Any, text: str = facts.PIPELINE) -> None:
    """A pipeline and its first version, as the controller hears of them."""
    spec = parse_pipeline(text).spec
    applied: Payload = PipelineApplied(pipeline="intents", version=1, digest=facts.BASE_DIGEST, spec=spec)
    model = ModelRef(model_version="intents@1", base_model="tiny", artifact=facts.artifact("adapters", 1),
                     dataset=facts.dataset_ref())
    registered = ModelRegistered(model=model, pipeline="intents", pipeline_version=1, run_id="run-1",
                                 evaluation_id="eval-1", base_model_digest=facts.BASE_DIGEST)
    deliver(rollout.engine, handlers, fact(applied), fact(registered))


@pytest.fixture
def tuneloop(run: Any, rollout: Any) -> Any:
    begin(rollout)
    return partial(run, TUNELOOP_ROLLOUT_URL=rollout.url)


def change(rollout: Any, **values: Any) -> None:
    """What the controller would write."""
    with transaction(rollout.engine) as session:
        row = session.exec(select(Rollout)).one()
        state = RolloutState.model_validate({**row.data, **values})
        row.data, row.state = state.model_dump(mode="json"), state.phase


def commands(rollout: Any) -> list[tuple[str, str, bool]]:
    with reading(rollout.engine) as session:
        return [(row.verb, row.reason, row.full) for row in session.exec(select(CommandRow)).all()]


def test_list_and_get(tuneloop: Any) -> None:
    listed = tuneloop("rollouts").stdout
    for word in ("intents-r1", "intents@1", "base model", "staging", "0 of 2", "0 %"):
        assert word in listed
    shown = tuneloop("rollouts", "get", "intents-r1").stdout
    for word in ("GUARDRAIL", "errors", "0/0", "no_data"):
        assert word in shown
    item = json.loads(tuneloop("rollouts", "get", "intents-r1", "-o", "json").stdout)
    assert item["guardrails"][0]["candidate"] == {"bad": 0, "total": 0}
    assert tuneloop("rollouts", "--route", "other").stdout.startswith("no rollouts")
    assert tuneloop("rollouts", "decisions", "intents-r1").stdout == "no decisions yet\n"


def test_a_person_takes_the_wheel(tuneloop: Any, rollout: Any) -> None:
    paused = tuneloop("rollouts", "pause", "intents-r1", "--reason", "lunch")
    assert (paused.exit_code, paused.stdout) == (0, "")
    assert paused.stderr.startswith("asked the controller to pause intents-r1, which is staging; `tuneloop rollouts")
    assert json.loads(tuneloop("rollouts", "abort", "intents-r1", "-r", "no good", "-o", "json").stdout)["id"] == \
        "intents-r1"
    tuneloop("rollouts", "promote", "intents-r1")
    tuneloop("rollouts", "promote", "intents-r1", "--full")
    assert commands(rollout) == [
        ("pause", "lunch", False), ("abort", "no good", False), ("promote", "", False), ("promote", "", True)
    ]


def test_back_to_a_version_and_again(tuneloop: Any, rollout: Any) -> None:
    result = tuneloop("rollouts", "undo", "intents")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: route intents: nothing to go back to: no version was stable before base;")
    assert tuneloop("rollouts", "undo", "nowhere").exit_code == 3
    assert "it has not ended (staging); abort it first" in tuneloop("rollouts", "retry", "intents-r1").stderr
    change(rollout, phase="rolled_back")
    result = tuneloop("rollouts", "retry", "intents-r1", "-r", "the router was broken")
    assert (result.exit_code, result.stderr) == (
        0, "intents@1 is tried again; `tuneloop rollouts get intents-r1-2 -w` shows how\n"
    )
    assert "intents@1 (attempt 2)" in tuneloop("rollouts", "get", "intents-r1-2").stdout
    said = json.loads(tuneloop("rollouts", "decisions", "intents-r1-2", "-o", "json").stdout)["items"][0]
    assert (said["action"], said["by"]) == ("retry", getpass.getuser())
    assert said["reason"].endswith("the router was broken; intents-r1 ended as rolled_back")


def test_a_verb_that_makes_no_sense_now_is_refused(tuneloop: Any, rollout: Any) -> None:
    result = tuneloop("rollouts", "resume", "intents-r1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: rollout intents-r1: cannot resume: it is staging")
    assert commands(rollout) == []


def test_a_rollout_that_does_not_exist_is_3(tuneloop: Any) -> None:
    for verb in (("get",), ("decisions",), ("abort", "-r", "x"), ("get", "-w")):
        result = tuneloop("rollouts", *verb, "nobody-r1")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "", "error: no rollout nobody-r1\n")


@pytest.mark.parametrize(("end", "code"), [("promoted", 0), ("rolled_back", 5), ("superseded", 5)])
def test_watching_until_it_ends(tuneloop: Any, rollout: Any, end: str, code: int) -> None:
    change(rollout, phase="progressing", step=1, weight=1000, reason="loaded everywhere", exposed_from=START)
    results: list[Any] = []
    watch = ("rollouts", "get", "intents-r1", "-w", "-o", "json")
    watcher = threading.Thread(target=lambda: results.append(tuneloop(*watch)))
    watcher.start()
    change(rollout, phase=end, weight=10_000 if end == "promoted" else 0, reason="that is how it is", users=7)
    watcher.join(60)
    [result] = results
    assert result.exit_code == code
    assert json.loads(result.stdout)["phase"] == end
    lines = result.stderr.splitlines()
    assert any(line.startswith(end) and line.endswith("that is how it is") for line in lines)
    assert (lines[-1] == f"error: rollout intents-r1 ended as {end}: that is how it is") == (code == 5)


def test_a_report_is_one_file_with_picture_and_numbers(tuneloop: Any, rollout: Any, tmp_path: Any) -> None:
    evidence = {"errors": {"stable_bad": 1, "stable_total": 90, "candidate_bad": 9, "candidate_total": 10,
                           "e_harm": 77.0, "harm_threshold": 20.0, "e_safe": 0.001, "safe_threshold": 20.0,
                           "verdict": "harmful"}}
    with transaction(rollout.engine) as session:
        session.add(Decision(rollout_id="intents-r1", at=START, verdict="harmful", action="rollback", rule="e_harm",
                             reason="errors: too many", step=1, weight=0, evidence=evidence))
    assert json.loads(tuneloop("rollouts", "report", "intents-r1", "-o", "json").stdout) == \
        {"file": "intents-r1.html", "decisions": 1}
    html = (tmp_path / "intents-r1.html").read_text()
    for word in ("<svg", "9 of 10 (90.0 %)", "77 / 20", "errors: too many"):
        assert word in html
    assert html.count("errors: too many") > 1
    assert "http" not in html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    shown = tuneloop("rollouts", "decisions", "intents-r1").stdout
    assert "errors: 9/10 against 1/90, harm 77 / 20, safe 0.001 / 20" in shown
    refused = tuneloop("rollouts", "report", "intents-r1", "--file", "nowhere/x.html")
    assert refused.exit_code == 1
    assert refused.stderr == "error: nowhere/x.html: cannot be written: No such file or directory\n"
    assert tuneloop("rollouts", "report", "nobody-r1").exit_code == 3


def test_a_report_has_the_pages_of_all_decisions(
    tuneloop: Any, rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.commands.rollout_report._PAGE", 2)
    with transaction(rollout.engine) as session:
        for number in range(5):
            session.add(Decision(rollout_id="intents-r1", at=START, verdict="undecided", action="extend", step=1,
                                 rule="deadline", reason=f"the {number}th time", weight=2000, evidence={}))
    assert json.loads(tuneloop("rollouts", "report", "intents-r1", "-o", "json").stdout)["decisions"] == 5


def test_an_ab_test_shows_variants_latency_and_effect(run: Any, rollout: Any) -> None:
    text = facts.PIPELINE.replace(
        "{baseModel: tiny}", "{baseModel: tiny, rollout: {steps: [{weight: 50}], abTest: {metric: thumbs_down}}}"
    )
    begin(rollout, text)
    change(rollout, phase="progressing", step=1, weight=5000, ab_test={
        "stable": {"bad": 360, "total": 3600}, "candidate": {"bad": 216, "total": 3600}, "verdict": "candidate",
    }, latencies={"buckets": {"stable": {"0.25": 200, "0.5": 3400, "1": 3580, "+Inf": 3600}}})
    shown = run("rollouts", "get", "intents-r1", TUNELOOP_ROLLOUT_URL=rollout.url).stdout
    for word in ("A/B TEST: THUMBS_DOWN", "360/3600 (10.0 %)", "216/3600 (6.0 %)", "SURELY, AT 95 %",
                 "p50 0.25s to 0.5s", "to more",
                 "the candidate is better by +4 points, surely (95 %, at all times) between +0.",
                 "decided beyond +0: candidate"):
        assert word in shown
    told = json.loads(run("rollouts", "get", "intents-r1", "-o", "json", TUNELOOP_ROLLOUT_URL=rollout.url).stdout)
    assert told["ab_test"]["effect"]["estimate"] == pytest.approx(0.04)
    assert told["latency"]["candidate"] == []
    assert told["latency"]["stable"][2]["high"] is None
