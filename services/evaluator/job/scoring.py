"""Greedy answers and answer likelihoods of a causal model, from one pass over each row.

Both metrics need the model to read the prompt, which is most of the work, so both come from one teacher-forced pass
over prompt and expected answer. Where the model's most likely token equals the expected one at every place, greedy
generation would have written exactly the expected answer. Where it departs, generation goes on from there on the same
key-value cache, with the expected tokens after that place masked. A good model is thus scored in one pass a batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from shared.prompts import Example


@dataclass(frozen=True)
class Scored:
    """What a model does with one row.

    Attributes:
        generated: tokens of the greedy answer, with its end token where it came to one.
        nats: negative log-likelihood of the expected answer and its end token, summed over tokens.
        tokens: how many tokens `nats` is over.
        surprisal: mean negative log-probability of the generated tokens, in nats.
    """

    generated: list[int]
    nats: float
    tokens: int
    surprisal: float


@dataclass(frozen=True)
class Limits:
    """How answers are generated: at most `max_new_tokens`, ending at the `end` token, `batch_size` rows at once."""

    end: int
    max_new_tokens: int
    batch_size: int


@dataclass
class _Draft:
    """One row's greedy answer while it is being written."""

    row: int
    tokens: list[int]
    nats: list[float]

    def ended(self, limits: Limits) -> bool:
        return self.tokens[-1] == limits.end or len(self.tokens) >= limits.max_new_tokens


@torch.inference_mode()
def score(
    model: Any, examples: Sequence[Example], limits: Limits, on_batch: Callable[[int], None] = lambda _: None
) -> list[Scored]:
    """Every example's score, in the order given.

    Args:
        model: a causal language model in evaluation mode, with the wanted adapter active.
        examples: each with a prompt of at least one token and an answer that ends in the end token.
        on_batch: told the number of rows after each batch.
    """
    # Neighbours in length waste the least padding.
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].input_ids), i))
    scores: dict[int, Scored] = {}
    for start in range(0, len(order), limits.batch_size):
        chunk = order[start : start + limits.batch_size]
        scores.update(zip(chunk, _score_batch(model, [examples[i] for i in chunk], limits), strict=True))
        on_batch(len(chunk))
    return [scores[i] for i in range(len(examples))]


@torch.inference_mode()
def nats_of(model: Any, windows: Sequence[Sequence[int]]) -> float:
    """Negative log-likelihood of a text, summed over its tokens: of each window all but the first one."""
    sums = []
    for window in windows:
        ids = torch.tensor([window])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float()
        sums.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")))
    return math.fsum(sums)


def _score_batch(model: Any, batch: Sequence[Example], limits: Limits) -> list[Scored]:
    answers = [example.input_ids[example.prompt_length :] for example in batch]
    width = max(len(answer) for answer in answers)
    ids, mask = _pad(batch, width)
    cache = DynamicCache(config=model.config)
    # The logits of the last `width` places are those that predict the answers.
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=_positions(mask), cache=cache, use_cache=True,
        logits_to_keep=width,
    ).logits.float()
    nats = [
        float(torch.nn.functional.cross_entropy(row[: len(answer)], torch.tensor(answer), reduction="sum"))
        for row, answer in zip(logits, answers, strict=True)
    ]
    likeliest, sure = logits.argmax(dim=-1).tolist(), _nats_of_likeliest(logits).tolist()
    drafts = []
    for row, answer in enumerate(answers):
        agreed = _agreed(answer, likeliest[row], limits.end)[: limits.max_new_tokens]
        drafts.append(_Draft(row, agreed, sure[row][: len(agreed)]))
    _continue(model, drafts, mask, cache, limits, prompt_width=ids.shape[1] - width + 1)
    return [
        Scored(draft.tokens, nats[draft.row], len(answer), math.fsum(draft.nats) / len(draft.nats))
        for draft, answer in zip(drafts, answers, strict=True)
    ]


def _nats_of_likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Negative log-probability of the likeliest token at each place."""
    return logits.logsumexp(dim=-1) - logits.amax(dim=-1)


def _pad(batch: Sequence[Example], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask: prompts padded on the left, answers (without the end) on the right."""
    prompt_width = max(example.prompt_length for example in batch)
    ids = torch.zeros(len(batch), prompt_width + width - 1, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, example in enumerate(batch):
        read = example.input_ids[:-1]
        start = prompt_width - example.prompt_length
        ids[row, start : start + len(read)] = torch.tensor(read)
        mask[row, start : start + len(read)] = 1
    return ids, mask


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Each token's place in its own row; padding has none, and any number is good for it."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def _agreed(answer: Sequence[int], likeliest: Sequence[int], end: int) -> list[int]:
    """The greedy answer up to and with its end, or the first token in which it departs from the expected one."""
    for place, token in enumerate(likeliest[: len(answer)]):
        if token != answer[place] or token == end:
            return [*answer[:place], token]
    return list(answer)


def _continue(
    model: Any, drafts: Sequence[_Draft], mask: torch.Tensor, cache: DynamicCache, limits: Limits, *, prompt_width: int
) -> None:
    """Write the drafts that have not ended to their end, token by token, dropping each row as it ends."""
    for draft in drafts:
        # The last token of a draft has not been read yet, and what the cache holds after the agreed ones is not so.
        mask[draft.row, prompt_width + len(draft.tokens) - 1 :] = 0
    kept = list(range(len(drafts)))
    while alive := [draft for draft in drafts if not draft.ended(limits)]:
        rows = [draft.row for draft in alive]
        if rows != kept:
            chosen = torch.tensor([kept.index(row) for row in rows])
            cache.batch_select_indices(chosen)
            mask, kept = mask[chosen], rows
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
        logits = model(
            input_ids=torch.tensor([[draft.tokens[-1]] for draft in alive]), attention_mask=mask,
            position_ids=_positions(mask)[:, -1:], cache=cache, use_cache=True, logits_to_keep=1,
        ).logits
        last = logits[:, -1].float()
        for draft, token, nats in zip(
            alive, last.argmax(dim=-1).tolist(), _nats_of_likeliest(last).tolist(), strict=True
        ):
            draft.tokens.append(token)
            draft.nats.append(nats)
