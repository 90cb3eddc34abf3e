"""Scoring against the plain way: one row at a time, no cache, no padding. A tiny random Llama; tokens are numbers."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.evaluator.job.scoring import Limits, Scored, score
from shared.prompts import Example

END = 3
VOCABULARY = 40


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=END, pad_token_id=0,
        # Large weights make a random model opinionated, so that rounding cannot change the likeliest token.
        initializer_range=0.4,
    )
    return LlamaForCausalLM(config).eval()


@torch.inference_mode()
def greedy(model: Any, prompt: Sequence[int], limit: int) -> list[int]:
    """Greedy generation from its definition: read everything again for each token."""
    written: list[int] = []
    while len(written) < limit and END not in written:
        logits = model(input_ids=torch.tensor([[*prompt, *written]]), use_cache=False).logits
        written.append(int(logits[0, -1].argmax()))
    return written


@torch.inference_mode()
def nats(model: Any, example: Example) -> float:
    """The answer's negative log-likelihood from its definition."""
    logits = model(input_ids=torch.tensor([example.input_ids]), use_cache=False).logits[0].double()
    return -sum(
        float(torch.log_softmax(logits[place - 1], dim=-1)[example.input_ids[place]])
        for place in range(example.prompt_length, len(example.input_ids))
    )


@torch.inference_mode()
def surprisal(model: Any, example: Example, limit: int) -> float:
    """The greedy answer's mean negative log-probability from its definition."""
    prompt = example.input_ids[: example.prompt_length]
    written = greedy(model, prompt, limit)
    logits = model(input_ids=torch.tensor([[*prompt, *written]]), use_cache=False).logits[0].double()
    return -sum(
        float(torch.log_softmax(logits[len(prompt) - 1 + place], dim=-1)[token]) for place, token in enumerate(written)
    ) / len(written)


def examples(model: Any) -> list[Example]:
    """Prompts of many lengths; answers that the model would give wholly, in part, and not at all."""
    draw = random.Random(11)
    made = []
    for number in range(24):
        prompt = [draw.randrange(4, VOCABULARY) for _ in range(draw.randrange(1, 20))]
        own = [token for token in greedy(model, prompt, 8) if token != END]
        strange = [draw.randrange(4, VOCABULARY) for _ in range(draw.randrange(0, 9))]
        answer = [own, own[: number % 4] + strange, strange][number % 3]
        made.append(Example(input_ids=[*prompt, *answer, END], prompt_length=len(prompt)))
    return made


def expected(model: Any, rows: Sequence[Example], limit: int) -> list[Scored]:
    return [
        Scored(
            generated=greedy(model, row.input_ids[: row.prompt_length], limit), nats=nats(model, row),
            tokens=len(row.input_ids) - row.prompt_length, surprisal=surprisal(model, row, limit),
        )
        for row in rows
    ]


@pytest.mark.parametrize(("batch_size", "max_new_tokens"), [(1, 3), (5, 12), (24, 1)])
def test_batches_give_what_one_row_at_a_time_gives(model: Any, batch_size: int, max_new_tokens: int) -> None:
    rows = examples(model)
    scored = score(model, rows, Limits(end=END, max_new_tokens=max_new_tokens, batch_size=batch_size))
    plain = expected(model, rows, max_new_tokens)
    assert [item.generated for item in scored] == [item.generated for item in plain]
    assert [item.tokens for item in scored] == [item.tokens for item in plain]
    assert [item.surprisal for item in scored] == pytest.approx([item.surprisal for item in plain], rel=1e-4, abs=1e-4)
    assert [item.nats for item in scored] == pytest.approx([item.nats for item in plain], rel=1e-4, abs=1e-4)


def test_the_examples_are_as_different_as_they_should_be(model: Any) -> None:
    """Otherwise the test above would prove less than it seems to."""
    rows = examples(model)
    whole = partly = 0
    for row in rows:
        answer, own = row.input_ids[row.prompt_length :], greedy(model, row.input_ids[: row.prompt_length], 12)
        whole += own == answer
        partly += own != answer and own[0] == answer[0]
    assert whole
    assert partly
    assert len({row.prompt_length for row in rows}) > 5


def test_generation_ends_at_an_end_token_inside_the_expected_answer(model: Any) -> None:
    rows = [Example(input_ids=[9, 8, END, 7, END], prompt_length=2), *examples(model)[:3]]
    limits = Limits(end=END, max_new_tokens=6, batch_size=4)
    assert score(model, rows, limits)[0].generated == greedy(model, [9, 8], 6)


def test_progress_counts_every_row(model: Any) -> None:
    seen: list[int] = []
    score(model, examples(model)[:7], Limits(end=END, max_new_tokens=2, batch_size=3), seen.append)
    assert seen == [3, 3, 1]
