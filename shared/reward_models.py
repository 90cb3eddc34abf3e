"""Reward models: a base model whose language head is replaced by one that gives an answer a score.

Trained on pairs by the loss of Bradley and Terry (Ouyang et al., arXiv 2203.02155, section 3.5), so that only
differences of scores of answers to the same prompt mean something. An artifact of the kind `KIND` is PEFT's two files,
with the head's weights among them, or a whole model. Training, evaluation and reinforcement learning read it here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from shared.errors import InvalidInputError
from shared.prompts import Tokenizer, encode

KIND = "reward-models"
HEAD = "score"
_CONFIG, _WHOLE = "adapter_config.json", "config.json"


def load_with_head(folder: Path, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """The base model of a folder with a score head, which is drawn at random where the folder has none."""
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=dtype, local_files_only=True, trust_remote_code=False, **options
    )


def load_reward_model(folder: Path, base: Path, tokenizer: Tokenizer) -> "RewardModel":
    """The reward model of an artifact's folder, over the base that it was trained on, ready to score.

    Raises:
        InvalidInputError: the folder holds something else, or does not fit the base.
    """
    adapted = (folder / _CONFIG).is_file()
    if not adapted and not (folder / _WHOLE).is_file():
        raise InvalidInputError(f"{folder} is no reward model: neither {_CONFIG} nor {_WHOLE} is there")
    try:
        model = load_with_head(base if adapted else folder)
        if adapted:
            model = PeftModel.from_pretrained(model, str(folder))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"the reward model does not fit its base model: {error}") from error
    return RewardModel(model.requires_grad_(False).eval(), tokenizer)


class RewardModel:
    """Scores answers.

    Args:
        model: a sequence classifier with one output.
        tokenizer: of its base; prompts and answers are rendered as in training.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._model.config.get_text_config().pad_token_id = padding_of(tokenizer)

    def to(self, device: Any) -> "RewardModel":
        """Move it; itself."""
        self._model.to(device)
        return self

    def score(
        self, conversations: Sequence[Sequence[Mapping[str, str]]], *, batch_size: int, max_length: int | None = None
    ) -> list[float]:
        """One score for each conversation, which ends in the answer that is scored.

        Args:
            max_length: in tokens; longer ones are cut at the right, as in training.
        """
        rows = [encode(self._tokenizer, messages, max_length=max_length).input_ids for messages in conversations]
        return scores(self._model, rows, padding=padding_of(self._tokenizer), batch_size=batch_size)


def padding_of(tokenizer: Tokenizer) -> int:
    """The token that fills rows up; where the tokenizer has none, the end token, as in TRL's trainer."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


@torch.inference_mode()
def scores(model: Any, rows: Sequence[Sequence[int]], *, padding: int, batch_size: int) -> list[float]:
    """The model's score of each row of tokens, in the order given."""
    device = next(model.parameters()).device
    found: list[float] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        width = max(len(row) for row in batch)
        ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in batch], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=device)
        found += model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].float().tolist()
    return found


def pairwise_accuracy(better: Sequence[float], worse: Sequence[float]) -> float:
    """Share of pairs in which the better answer has the higher score; a tie shows no preference and does not count."""
    return sum(b > w for b, w in zip(better, worse, strict=True)) / len(better)
