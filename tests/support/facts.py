"""Payloads of one loop, as the services would say them, for tests of those who listen."""

from typing import Any

from shared.events import (
    ArtifactRef,
    DatasetPrepared,
    DatasetPublished,
    DatasetRef,
    DatasetRejected,
    EvaluationCompleted,
    GateResult,
    Measurement,
    RolloutPromoted,
    RolloutRolledBack,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingStarted,
)

BASE_DIGEST = "sha256:" + "b" * 64
PIPELINE = """
apiVersion: tuneloop.dev/v1
kind: Pipeline
metadata: {name: intents, labels: {team: support}}
spec: {baseModel: tiny}
"""


def artifact(kind: str, number: int) -> ArtifactRef:
    """The `number`-th artifact of a kind."""
    hexadecimal = f"{number:064x}"
    return ArtifactRef(uri=f"s3://tuneloop/{kind}/{hexadecimal}/", digest=f"sha256:{hexadecimal}")


def dataset_ref(number: int = 1) -> DatasetRef:
    return DatasetRef(dataset_id=f"data-{number}", artifact=artifact("datasets", number),
                      rows={"train": 70, "validation": 10, "test": 20})


def published(number: int = 1) -> DatasetPublished:
    return DatasetPublished(dataset_id=f"data-{number}", pipeline="intents", name="good.jsonl",
                            uri=f"s3://tuneloop/raw/data-{number}/data.jsonl", sha256="sha256:" + "c" * 64)


def prepared(number: int = 1, version: int = 1) -> DatasetPrepared:
    return DatasetPrepared(dataset_id=f"data-{number}", pipeline="intents", pipeline_version=version, rows_in=102,
                           dataset=dataset_ref(number), source_uri=f"s3://tuneloop/raw/data-{number}/data.jsonl",
                           rows_rejected={"duplicate": 2})


def rejected(number: int = 1) -> DatasetRejected:
    return DatasetRejected(dataset_id=f"data-{number}", pipeline="intents",
                           reasons=["line 1: not JSON", "too few rows"],
                           source_uri=f"s3://tuneloop/raw/data-{number}/data.jsonl")


def _run(number: int) -> dict[str, Any]:
    return {"run_id": f"run-{number}", "pipeline": "intents", "pipeline_version": 1}


def started(number: int = 1, attempt: int = 1) -> TrainingStarted:
    return TrainingStarted(**_run(number), dataset=dataset_ref(number), base_model="tiny", attempt=attempt,
                           job=f"train-run-{number}-{attempt}")


def progressed(number: int = 1, step: int = 10, loss: float | None = 0.5) -> TrainingProgressed:
    return TrainingProgressed(**_run(number), attempt=1, step=step, total_steps=40, loss=loss, eta_seconds=30.0)


def completed(number: int = 1) -> TrainingCompleted:
    return TrainingCompleted(**_run(number), dataset=dataset_ref(number), base_model="tiny",
                             base_model_digest=BASE_DIGEST, adapter=artifact("adapters", number), attempt=1, steps=40,
                             metrics={"validation_loss": 0.25})


def failed(number: int = 1) -> TrainingFailed:
    return TrainingFailed(**_run(number), attempt=3, reason="out of memory at step 12")


def evaluated(number: int = 1, *, passed: bool = True) -> EvaluationCompleted:
    gate = GateResult(gate="exact_match >= 0.5", passed=passed, observed=0.9 if passed else 0.1, threshold=0.5,
                      reason="0.9 >= 0.5" if passed else "0.1 < 0.5")
    return EvaluationCompleted(
        evaluation_id=f"eval-{number}", **_run(number), dataset=dataset_ref(number), base_model="tiny",
        base_model_digest=BASE_DIGEST, adapter=artifact("adapters", number), passed=passed, gates=[gate],
        measurements=[Measurement(subject="candidate", on="heldout", rows=20, metrics={"exact_match": 0.9}),
                      Measurement(subject="base", on="heldout", rows=20, metrics={"exact_match": 0.0})],
        report_uri=f"s3://tuneloop/evaluations/eval-{number}/predictions.jsonl",
    )


def _rollout(model_version: str) -> dict[str, Any]:
    return {"rollout_id": model_version.replace("@", "-r"), "pipeline": "intents", "route": "intents",
            "model_version": model_version}


def promoted(model_version: str, previous: str | None = None) -> RolloutPromoted:
    return RolloutPromoted(**_rollout(model_version), previous=previous, reason="every guardrail is safe")


def rolled_back(model_version: str) -> RolloutRolledBack:
    return RolloutRolledBack(**_rollout(model_version), reason="errors: e-value 43 >= 20", guardrail="errors",
                             evidence={"e_harm": 43.0}, seconds_exposed=12.5, users_exposed=7)
