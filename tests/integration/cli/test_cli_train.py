"""`tuneloop train preview`, with rows and tokenizer from S3 and with files alone; and what a person does to a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.cli.demo.data import make_rows
from services.registry.handlers import handlers
from services.trainer.api import build_router
from services.trainer.handlers import handlers as trainer_handlers
from services.trainer.models import Base
from services.trainer.preview import load_tokenizer
from services.trainer.settings import TrainerSettings
from shared.events import PipelineApplied
from shared.launchers import launcher_from
from shared.pipeline import parse_pipeline
from shared.prompts import encode
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support import facts
from tests.support.apps import app_of
from tests.support.db import sqlite_engine
from tests.support.delivery import deliver, fact
from tests.support.http import served
from tests.support.training import job_environment, put_dataset

pytestmark = pytest.mark.integration


def test_an_applied_pipelines_newest_dataset_version_is_shown(
    run: Any, registry: Any, store: ArtifactStore, s3_settings: S3Settings, tmp_path: Path
) -> None:
    rows = make_rows("good", 40, seed=9)
    dataset = put_dataset(store, tmp_path / "prepared", train=rows[:30], validation=rows[30:])
    where = {name: value for name, value in job_environment(s3_settings, tmp_path).items() if "S3" in name}
    (tmp_path / "pipeline.yaml").write_text(facts.PIPELINE)
    assert run("apply", "pipeline.yaml", TUNELOOP_REGISTRY_URL=registry.url).exit_code == 0

    def preview(*options: str) -> Any:
        return run("train", "preview", "intents", *options, TUNELOOP_REGISTRY_URL=registry.url, **where)

    missing = preview()
    assert (missing.exit_code, "has no prepared dataset version yet" in missing.stderr) == (3, True)
    deliver(registry.engine, handlers, fact(facts.prepared().model_copy(update={"dataset": dataset})))
    told = json.loads(preview("-n", "1", "-o", "json").stdout)
    assert (told["counts"]["rows"], told["counts"]["with_end"], told["refusal"]) == (30, 30, "")
    [answer] = told["rows"][0]["sequences"]
    trained = "".join(token["text"] for token in answer["tokens"] if token["kind"] == "trained")
    assert trained == rows[0]["messages"][-1]["content"]


def test_a_file_is_shown_without_any_service_and_a_refusal_is_an_exit_code(
    run: Any, tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "Where is my card?", "completion": "card_arrival"}\nbroken\n')
    asked = [{"role": "user", "content": "Where is my card?"}, {"role": "assistant", "content": "card_arrival"}]
    room = len(encode(load_tokenizer(tiny_model), asked).input_ids) - 1
    shown = run("train", "preview", "--file", str(file), "--base", str(tiny_model), "--max-length", str(room))
    assert shown.exit_code == 1
    assert "only 0 of 1 training rows" in shown.stderr
    assert "1 rows are bad and left out: row 2: not JSON" in shown.stderr
    assert "✂<|im_end|>✂" in shown.stdout
    for arguments, message in (((), "give a pipeline, or rows by --file"),
                               (("--file", str(file)), "or a base model by --base")):
        refused = run("train", "preview", *arguments)
        assert (refused.exit_code, message in refused.stderr) == (2, True)


def test_a_run_is_cancelled_and_retried_with_a_reason(run: Any, tmp_path: Path) -> None:
    settings = TrainerSettings(launcher_dir=tmp_path / "jobs")
    spec = parse_pipeline(facts.PIPELINE).spec
    applied = PipelineApplied(pipeline="intents", version=1, digest="sha256:" + "0" * 64, spec=spec)
    with sqlite_engine(Base.metadata) as engine:
        deliver(engine, trainer_handlers, fact(applied), fact(facts.prepared()))
        with served(app_of(settings, lambda r: build_router(r, launcher_from(settings)), engine)) as url:
            name = f"intents-v1-{facts.dataset_ref().artifact.digest[7:19]}"
            early = run("runs", "retry", name, "-r", "why not", TUNELOOP_TRAINER_URL=url)
            assert (early.exit_code, "only one that failed or was cancelled is retried" in early.stderr) == (1, True)
            told = json.loads(
                run("runs", "cancel", name, "--reason", "wrong rows", "-o", "json", TUNELOOP_TRAINER_URL=url).stdout)
            assert (told["id"], told["state"]) == (name, "pending"), "it ends when the trainer looks"
            assert run("runs", "cancel", "nobody", "-r", "x", TUNELOOP_TRAINER_URL=url).exit_code == 3
            assert run("runs", "cancel", name, TUNELOOP_TRAINER_URL=url).exit_code == 2, "a reason is needed"
