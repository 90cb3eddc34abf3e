"""`python -m shared.base_models.upload`: how an operator puts a base model where jobs and servers look for it."""

from pathlib import Path

import pytest

from shared.base_models.upload import main
from shared.s3 import connect_store
from shared.settings import S3Settings

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _bucket(s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELOOP_S3_ENDPOINT", s3_settings.s3_endpoint)
    monkeypatch.setenv("TUNELOOP_S3_BUCKET", "uploaded")
    monkeypatch.setenv("TUNELOOP_S3_ACCESS_KEY", s3_settings.s3_access_key)
    monkeypatch.setenv("TUNELOOP_S3_SECRET_KEY", s3_settings.s3_secret_key.get_secret_value())


def test_a_folder_is_stored_once_in_a_bucket_that_is_made(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", str(tiny_model)]) == 0
    assert main(["mine", str(tiny_model)]) == 0
    assert capsys.readouterr().out == "mine: stored\nmine: is there already\n"
    with connect_store(S3Settings()) as store:
        manifest = store.manifest("s3://uploaded/base-models/mine/")
    assert manifest is not None
    assert {file.path for file in manifest.files} >= {"config.json", "tokenizer.json", "model.safetensors"}


@pytest.mark.parametrize(("words", "code", "said"), [
    (["mine", "/nowhere"], 1, "/nowhere has no config.json; give the folder of a Hugging Face model"),
    (["llama"], 1, "give the folder of llama: only tiny"),
    ([], 2, "usage: python -m shared.base_models.upload NAME [FOLDER]"),
])
def test_what_is_wrong_is_said(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with connect_store(S3Settings()) as store:
        store.ensure_bucket()
    names = [word.replace("mine", "other") for word in words]
    assert main(names) == code
    assert said in capsys.readouterr().err
