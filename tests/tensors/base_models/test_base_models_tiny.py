"""The tiny base model: whole, reproducible, and without a trace of where it was made."""

import hashlib
import json
from pathlib import Path

import pytest

from shared.base_models.__main__ import main
from shared.base_models.folders import whole_folder
from shared.base_models.tiny import VOCABULARY, build_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "tiny"
    build_tiny(target)
    return target


def _sha256s(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def _fail_half_way(target: Path) -> None:
    with whole_folder(target) as work:
        (work / "half").write_text("x")
        raise OSError("disk full")


def test_the_same_seed_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    build_tiny(tmp_path / "again")
    build_tiny(tmp_path / "other", seed=18)

    assert _sha256s(tmp_path / "again") == _sha256s(folder)
    assert _sha256s(tmp_path / "other")["model.safetensors"] != _sha256s(folder)["model.safetensors"]


def test_it_is_a_usual_folder_with_safetensors_only(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = set(_sha256s(folder))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".py"))]
    assert 5e5 < sum(parameter.numel() for parameter in model.parameters()) < 2e6
    assert len(tokenizer) == VOCABULARY == model.config.vocab_size
    assert tokenizer.eos_token_id == model.config.eos_token_id != tokenizer.pad_token_id


def test_no_path_of_the_builder_is_in_it(folder: Path) -> None:
    text = "".join(file.read_text() for file in folder.iterdir() if file.suffix in {".json", ".jinja"})

    assert str(folder.parent) not in text
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(OSError, match="disk"):
        _fail_half_way(target)
    assert list(tmp_path.iterdir()) == []

    for text in ("first", "second"):
        with whole_folder(target) as work:
            (work / "file").write_text(text)
    assert (target / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_the_command_names_the_models_that_exist(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpt-9", str(tmp_path / "x")]) == 2
    assert "{tiny,smollm2-135m-instruct} TARGET" in capsys.readouterr().err
    assert main(["tiny", str(tmp_path / "made")]) == 0
    assert _sha256s(tmp_path / "made") == _sha256s(folder)
