"""A run's checklist: each line from recorded facts, and "not run" wherever there is none."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.registry.checklist import Facts, checklist_of
from services.registry.views import DatasetView, EvaluationView, ModelView, RolloutView, RunView
from shared.events import GateResult, Measurement
from shared.pipeline import PipelineSpec
from tests.support import facts as told

NOW = datetime(2026, 5, 1, tzinfo=UTC)
FACT: dict[str, Any] = {
    "pipeline": "intents", "reason": None, "correlation_id": "loop", "created_at": NOW, "updated_at": NOW,
    "finished_at": NOW,
}


def view(kind: type[Any], **values: Any) -> Any:
    """A view with what is given, and None for the rest."""
    return kind.model_validate(dict.fromkeys(kind.model_fields) | FACT | values)


def run(**values: Any) -> RunView:
    done = {"id": "run-1", "state": "completed", "pipeline_version": 1, "attempt": 1, "step": 45, "total_steps": 45,
            "validation_loss": 0.2, "base_model_digest": "b", "dataset_digest": "d", "adapter_digest": "a",
            "metrics": {"loss": 0.1, "validation_loss": 0.2, "train_rows": 360.0, "skipped_rows": 0.0}}
    found: RunView = view(RunView, **{**done, **values})
    return found


def spec(**values: Any) -> PipelineSpec:
    return PipelineSpec.model_validate({"baseModel": "smollm2-135m-instruct", **values})


TEXTS = spec(training={"objective": "pretrain"},
             evaluation={"gates": [{"metric": "bits_per_byte", "versus": "base", "maxDelta": 0}]})
SHARDED = {"method": "full", "learningRate": 2e-5, "resources": {"gpu": 8}, "batchSize": 1}


def measurement(subject: Any, on: Any, value: float, metric: str = "exact_match") -> Measurement:
    return Measurement(subject=subject, on=on, rows=20, metrics={metric: value})


def evaluation(candidate: float = 0.9, base: float = 0.1, **values: Any) -> EvaluationView:
    measured = [measurement("candidate", "heldout", candidate), measurement("base", "heldout", base)]
    gate = GateResult(gate="exact_match on heldout: candidate >= 0.5", passed=True, observed=0.9, threshold=0.5,
                      reason="candidate 0.9 is at least 0.5")
    found: EvaluationView = view(EvaluationView, **{
        "id": "eval-1", "run_id": "run-1", "state": "passed", "measurements": measured, "gates": [gate], **values,
    })
    return found


def dataset(**values: Any) -> DatasetView:
    rows = {"train": 360, "validation": 40, "test": 80}
    found: DatasetView = view(DatasetView, **{
        "id": "data-1", "state": "prepared", "artifact_digest": "d", "rows": rows, "rows_in": 500,
        "rows_rejected": {"duplicate": 17, "not_json": 3}, **values,
    })
    return found


def states(**values: Any) -> dict[str, tuple[str, str]]:
    known: dict[str, Any] = {"run": run(), "spec": spec(), "dataset": None, "evaluation": None, "model": None,
                             "rollout": None}
    return {item.check: (item.state, item.why) for item in checklist_of(Facts(**{**known, **values})).checks}


def test_a_run_of_which_nothing_is_known_passes_nothing_but_its_own_facts() -> None:
    found = states(run=run(state="running", metrics=None, step=None, total_steps=None, validation_loss=None,
                           base_model_digest=None, adapter_digest=None), spec=None)
    assert {state for state, _ in found.values()} == {"not_run", "not_applicable"}
    assert all(why for _, why in found.values())


def test_a_whole_loop_passes_with_its_numbers() -> None:
    model = view(ModelView, id="intents@1", pipeline_version=1, route="intents", number=1, stage="production",
                 stage_reason="", evaluation_id="eval-1", run_id="run-1", base_model="tiny", base_model_digest="b",
                 adapter_uri="s3://a", adapter_digest="a", dataset=told.dataset_ref())
    rollout = view(RolloutView, id="intents-r1", state="promoted", model_version="intents@1", route="intents",
                   reason="every guardrail is safe")
    found = states(dataset=dataset(), evaluation=evaluation(), rollout=rollout, model=model)
    expected = {
        "there are enough rows": "360 rows to train on", "rows are valid": "left out as bad: 3 not_json",
        "duplicates are left out": "word for word: 17", "the bare base was measured": "exact_match 0.1",
        "the learning rate is one that is advised": "0.002; about 0.0015 is advised", "the loss stayed finite": "0.1",
        "every row has an answer to learn": "360 rows", "it is better than the bare base": "0.9, the bare base 0.1",
        "its gates hold": "all 1 of them", "there is a way back": "rollout intents-r1 is promoted",
        "what made it is recorded": "pipeline version 1", "it is a version in the registry": "it is intents@1",
        "no test row was trained on": "hash of their prompt", "it is in a form that is served": "by: vllm, small",
        "serving has the template of training": "onto a base of the digest",
    }
    for check, words in expected.items():
        assert found[check][0] == "passed", check
        assert words in found[check][1]
    assert not [check for check, (state, _) in found.items() if state == "failed"]


@pytest.mark.parametrize(("check", "values", "words"), [
    ("there are enough rows", {"dataset": dataset(rows={"train": 40, "validation": 5, "test": 5})}, "40 rows"),
    ("there are train, validation and test rows", {"dataset": dataset(rows={"train": 9, "test": 1})}, "in validation"),
    ("the learning rate is one that is advised", {"spec": spec(training={"learningRate": 0.1})}, "0.1; about"),
    ("the learning rate is one that is advised", {"spec": spec(training={"objective": "dpo"})}, "about 7.5e-05"),
    ("personal data is left out", {"run": run(metrics={"personal_rows": 2.0, "scanned_rows": 9.0})}, "2 of 9 training"),
    ("the loss stayed finite", {"run": run(state="failed", reason="the loss became nan")}, "the loss became nan"),
    ("it did not end overfitted", {"run": run(validation_loss=0.4)}, "0.4, the best 0.2"),
    ("it stops when it gets no better", {"spec": spec(training={"epochs": 3})}, "3 epochs and no earlyStopping"),
    ("every row has an answer to learn",
     {"run": run(metrics={"train_rows": 9.0, "skipped_rows": 2.0})}, "2 were skipped"),
    ("it is better than the bare base", {"evaluation": evaluation(0.2, 0.3)}, "0.2, the bare base 0.3"),
    ("it was tested on rows that it never saw",
     {"evaluation": evaluation(state="failed", reason="changes nothing", measurements=None)}, "changes nothing"),
    ("it is no worse than production", {"evaluation": evaluation(measurements=[
        measurement("candidate", "heldout", 0.9), measurement("candidate", "production_heldout", 0.5),
        measurement("production", "production_heldout", 0.8)])}, "0.5, production 0.8; no gate asks for it"),
    ("it gets traffic in steps", {"spec": spec(rollout={"steps": [{"weight": 100}]})}, "100 %"),
    ("its memory was estimated", {"spec": spec(training={"resources": {"memory": "1Gi"}})}, "the job may take 1.1"),
])
def test_what_went_wrong_fails_with_its_numbers(check: str, values: dict[str, Any], words: str) -> None:
    state, why = states(**values)[check]
    assert (state, words in why) == ("failed", True), why


@pytest.mark.parametrize(("check", "values", "state"), [
    ("it is no worse than production", {"evaluation": evaluation()}, "not_applicable"),
    ("it is a version in the registry", {"evaluation": evaluation(state="refused")}, "not_applicable"),
    ("it stops when it gets no better", {"spec": spec(training={"epochs": 1})}, "not_applicable"),
    ("it stops when it gets no better", {"spec": spec(training={"epochs": 3, "earlyStopping": {}})}, "passed"),
    ("it did not end overfitted",
     {"run": run(validation_loss=0.4), "spec": spec(training={"earlyStopping": {}})}, "passed"),
    ("the learning rate is one that is advised", {"spec": spec(baseModel="house-model")}, "not_applicable"),
    ("the learning rate is one that is advised", {"spec": spec(training={"learningRate": "auto"})}, "not_run"),
    ("the learning rate is one that is advised",
     {"spec": spec(training={"method": "ia3", "learningRate": 0.005})}, "passed"),
    ("the learning rate is one that is advised",
     {"spec": spec(training={"objective": "dpo", "learningRate": 5e-5})}, "passed"),
    ("the end token is trained", {"spec": TEXTS}, "not_applicable"),
    ("near duplicates are left out", {"spec": TEXTS}, "not_applicable"),
    ("it is better than the bare base", {"evaluation": evaluation(measurements=[
        measurement("candidate", "heldout", 0.8, "pairwise_accuracy"),
        measurement("base", "heldout", 0.5, "pairwise_accuracy")])}, "passed"),
    ("it is better than the bare base", {"evaluation": evaluation(measurements=[
        measurement("candidate", "heldout", 2.0, "perplexity"), measurement("base", "heldout", 3.0, "perplexity")])},
     "not_run"),
    ("its memory was estimated", {"spec": spec(baseModel="qwen2-5-72b", training=SHARDED)}, "failed"),
    ("its memory was estimated", {"spec": spec(baseModel="qwen2-5-32b-instruct", training=SHARDED)}, "passed"),
    ("activations are checkpointed", {}, "not_applicable"),
    ("activations are checkpointed", {"spec": spec(training={"resources": {"gpu": 1}})}, "passed"),
    ("it is in a form that is served", {"spec": spec(training={"method": "full"})}, "not_applicable"),
    ("serving has the template of training", {"run": run(base_model_digest=None)}, "not_run"),
    ("serving has the template of training", {"spec": spec(training={"merge": True})}, "not_applicable"),
    ("personal data is left out", {}, "not_run"),
    ("personal data is left out", {"run": run(metrics={"personal_rows": 0.0, "scanned_rows": 9.0})}, "passed"),
    ("an adapter is tried before full training", {"spec": spec(training={"method": "full"})}, "failed"),
    ("checkpoints were kept", {"run": run(step=5)}, "not_applicable"),
    ("drift is watched", {"spec": spec(capture={"share": 0.1})}, "passed"),
    ("drift is watched", {}, "not_run"),
    ("its memory was estimated", {"spec": spec(training={"resources": {"memory": "64Gi"}})}, "passed"),
    ("its memory was estimated", {"spec": spec(training={"resources": {"gpu": 1}})}, "passed"),
    ("its memory was estimated", {"spec": spec(baseModel="house-model")}, "not_run"),
    ("it is measured again", {"spec": spec(triggers={"reevaluate": {"cron": "0 3 * * *"}})}, "passed"),
    ("it forgot no general abilities", {"evaluation": evaluation()}, "not_run"),
])
def test_what_makes_no_sense_or_was_not_done_says_so(check: str, values: dict[str, Any], state: str) -> None:
    assert states(**values)[check][0] == state


@pytest.mark.parametrize(("chosen", "outcomes"), [
    (None, {"what was left open is known": "not_run", "its memory was estimated": "not_run",
            "it stops when it gets no better": "not_run", "checkpoints were kept": "passed"}),
    ({"epochs": "3: few rows", "maxLength": "8192: long rows", "checkpointEverySteps": "50: a twentieth",
      "lora.rank": "8: enough", "lora.alpha": "16: twice"},
     {"what was left open is known": "passed", "its memory was estimated": "failed",
      "it stops when it gets no better": "failed", "checkpoints were kept": "not_applicable"}),
])
def test_what_was_left_open_is_judged_by_what_the_run_chose(
    chosen: dict[str, str] | None, outcomes: dict[str, str]
) -> None:
    left = spec(training={"epochs": "auto", "maxLength": "auto", "checkpointEverySteps": "auto",
                          "lora": {"rank": "auto"}, "resources": {"memory": "16Gi"}})
    found = states(spec=left, run=run(chosen=chosen))
    assert {check: found[check][0] for check in outcomes} == outcomes
    assert states()["what was left open is known"][0] == "not_applicable"


def test_a_rate_that_the_trainer_chose_is_the_one_that_it_told() -> None:
    left = {"spec": spec(training={"learningRate": "auto"}), "run": run(chosen={"learningRate": "0.003: the steepest"})}
    assert states(**left)["the learning rate is one that is advised"] == (
        "passed", "left to the trainer: 0.003: the steepest")
