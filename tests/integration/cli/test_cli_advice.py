"""`tuneloop estimate` and `tuneloop advise`: here where the model is known here, else by the trainer and its store."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.trainer.advice import advice_router
from services.trainer.settings import TrainerSettings
from shared.db import connect
from shared.s3 import connect_store
from shared.settings import S3Settings
from tests.support.apps import app_of
from tests.support.http import served

pytestmark = pytest.mark.integration

CONFIG = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 512,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}


@pytest.fixture
def trainer(tmp_path: Path, s3_settings: S3Settings) -> Iterator[str]:
    """The trainer's address; `house-model` is a base model of its store."""
    folder = tmp_path / "house-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with connect_store(s3_settings) as store:
        store.put_dir_at("base-models/house-model/", folder, kind="base-model", meta={})
    engine = connect(f"sqlite:///{tmp_path}/trainer.db")
    with served(app_of(TrainerSettings(**s3_settings.model_dump()), advice_router, engine)) as url:
        yield url
    engine.dispose()


def test_a_config_and_a_known_model_need_no_service(run: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for model in ("config.json", ".", "smollm2-135m"):
        shown = run("estimate", model, "--gpu", "l4", "--rows", "100", "--tokens-per-row", "50")
        assert shown.exit_code == 0, shown.stderr
        for word in ("peak", "smallest GPU", "weights", "at once: loss", "tokens/s", "l4"):
            assert word in shown.stdout
    answer = json.loads(run("estimate", ".", "--method", "prefix", "-o", "json").stdout)
    assert answer["trainable"] == 20 * 2 * 2 * 32
    assert answer["setup"]["gradient_checkpointing"] is False


def test_what_does_not_fit_is_told_with_its_remedies(run: Any) -> None:
    result = run("estimate", "llama-3.1-8b", "--method", "full", "--gpu", "rtx-4090")
    assert result.exit_code == 1
    assert "error: llama-3.1-8b does not fit" in result.stderr
    for word in ("method: qlora (the base in 4 bits)", "SAVES", "Fits with:"):
        assert word in result.stdout


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("llama-3.1-8b", "--rows", "5"), 2, "give both --rows and --tokens-per-row"),
    (("llama-3.1-8b", "--gpu", "h1000"), 3, "no GPU h1000 in the table"),
    (("llama-3.1-8b", "--target", "query"), 1, "the model has no linear layer query"),
    (("llama-3.1-8b", "--method", "prefix", "--checkpointing"), 2, "gradient checkpointing cannot"),
    (("phi-4", "--method", "ia3"), 1, "PEFT does not say what to rescale in phi3"),
    (("nowhere.json",), 2, "nowhere.json: cannot be read"),
    (("house-model",), 2, "TUNELOOP_TRAINER_URL"),
])
def test_a_wrong_question_says_what_is_wrong(run: Any, arguments: Any, code: int, message: str) -> None:
    result = run("estimate", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_a_model_of_the_store_is_known_by_the_trainer(run: Any, trainer: str) -> None:
    told = run("estimate", "house-model", "-o", "json", TUNELOOP_TRAINER_URL=trainer)
    assert json.loads(told.stdout)["family"] == "qwen2"
    advised = run("advise", "-m", "house-model", "--examples", "500", "--format", "--gpu", "l4", "-o", "json",
                  TUNELOOP_TRAINER_URL=trainer)
    assert json.loads(advised.stdout)["recipe"]["setup"]["method"] == "lora"
    missing = run("estimate", "no-model", TUNELOOP_TRAINER_URL=trainer)
    assert missing.exit_code == 3
    assert "no-model is neither a base model in the store" in missing.stderr


def test_a_profile_and_options_make_one_use_case(run: Any, tmp_path: Path) -> None:
    (tmp_path / "bot.yaml").write_text("{name: bot, examples: 40, needsFormat: true, needsKnowledge: true}")
    assert "retrieval (RAG)" in run("advise", "bot.yaml").stdout
    shown = run("advise", "bot.yaml", "--examples", "4000", "-m", "qwen2.5-0.5b", "--gpu", "l4").stdout
    for word in ("a hybrid", "arXiv 2312.05934", "learningRate", "training:", "smallest GPU"):
        assert word in shown
    wrong = run("advise", "--complexity", "hard")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "complexity: Input should be 'simple', 'moderate' or 'complex'" in wrong.stderr


def test_the_api_refuses_what_it_cannot_answer(trainer: str) -> None:
    def post(path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{trainer}/v1/{path}", json=body, trust_env=False)

    assert post("estimates").status_code == 422
    assert post("estimates", model="a", config={}).status_code == 422
    unknown = post("estimates", config={"model_type": "x"}).json()
    assert unknown["error"]["message"].startswith("config.json: model_type")
    assert post("estimates", model="smollm2-135m", setup={"rank": 0}).status_code == 422
    assert post("advice", use_case={"examples": 5}).json()["approach"] == "prompting"
