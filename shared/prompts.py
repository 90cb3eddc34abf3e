"""One way to turn a conversation into tokens, for training, evaluation and serving.

A model that is trained on one rendering and asked with another loses what it learned, without an error. So everything
goes through the tokenizer's own chat template here, and the prompt's tokens in training are exactly the tokens that
generation starts from. Pure functions over a tokenizer; nothing here imports torch.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidInputError

Message = Mapping[str, str]
# A Hugging Face tokenizer; typed loosely because importing transformers costs seconds that services do not have.
Tokenizer = Any

IGNORED_LABEL = -100
"""The label of a token that the loss skips (PyTorch's convention)."""


@dataclass(frozen=True)
class Example:
    """A row as the model sees it.

    Attributes:
        input_ids: the prompt, the answer and its end token.
        prompt_length: how many of them are the prompt. The rest is what is trained and scored.
    """

    input_ids: list[int]
    prompt_length: int

    @property
    def labels(self) -> list[int]:
        """`input_ids` where the loss counts, `IGNORED_LABEL` elsewhere."""
        return [IGNORED_LABEL] * self.prompt_length + self.input_ids[self.prompt_length :]

    @property
    def trained_tokens(self) -> int:
        """How many tokens the loss counts."""
        return len(self.input_ids) - self.prompt_length


def answer_of(messages: Sequence[Message]) -> str:
    """The expected answer of a row: its last message, which must be the assistant's."""
    if not messages or messages[-1].get("role") != "assistant":
        found = messages[-1].get("role") if messages else "nothing"
        raise InvalidInputError(f"the last message of a row must be the assistant's answer, not {found!r}")
    return messages[-1]["content"]


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The text that the model is to continue, for `messages` without the answer."""
    text = tokenizer.apply_chat_template(_plain(messages), tokenize=False, add_generation_prompt=True)
    return str(text)


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """The tokens of `render_prompt`. The template writes its special tokens itself, so none are added."""
    return _tokens(tokenizer, render_prompt(tokenizer, messages))


def encode(tokenizer: Tokenizer, messages: Sequence[Message], *, max_length: int | None = None) -> Example:
    """A row, ending in the assistant's answer, as tokens for training or scoring.

    Only the last answer and the token that ends it are trained: earlier turns are context. What a template writes
    after the end token (often a line feed) is left out, because generation never gets there.

    Args:
        max_length: cut at the right; a row whose prompt alone is longer comes back with no trained tokens.

    Raises:
        InvalidInputError: the last message is no answer, or the template renders the prompt differently once
            the answer follows, so that no place to start the loss exists.
    """
    answer_of(messages)
    prompt_text = render_prompt(tokenizer, messages[:-1])
    whole_text = str(tokenizer.apply_chat_template(_plain(messages), tokenize=False))
    if not whole_text.startswith(prompt_text):
        raise InvalidInputError(
            "the chat template renders the prompt differently when an answer follows it; training and serving would "
            f"differ. The prompt ends in {prompt_text[-40:]!r}"
        )
    prompt = _tokens(tokenizer, prompt_text)
    whole = _tokens(tokenizer, whole_text)
    # Tokenized together, the answer's first letters may melt into the prompt's last token; generation cannot do that.
    joint = whole[: len(prompt)] == prompt
    answer = whole[len(prompt) :] if joint else _tokens(tokenizer, whole_text[len(prompt_text) :])
    ids = prompt + _until_end(answer, end_token_id(tokenizer))
    if max_length is not None:
        ids = ids[:max_length]
    return Example(input_ids=ids, prompt_length=min(len(prompt), len(ids)))


def decode_answer(tokenizer: Tokenizer, generated: Sequence[int]) -> str:
    """The text of generated tokens (without the prompt), up to the end token, stripped."""
    ids = list(generated)
    end = end_token_id(tokenizer)
    if end in ids:
        ids = ids[: ids.index(end)]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def end_token_id(tokenizer: Tokenizer) -> int:
    """The token that ends an answer, at which generation stops."""
    if tokenizer.eos_token_id is None:
        raise InvalidInputError("the tokenizer has no end-of-sequence token, so a model could never learn to stop")
    return int(tokenizer.eos_token_id)


def template_sha256(tokenizer: Tokenizer) -> str:
    """Identifies the chat template, so that training and serving can be compared."""
    if not tokenizer.chat_template:
        raise InvalidInputError("the tokenizer has no chat template; use an instruct model, or give it one")
    return "sha256:" + hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _until_end(answer: list[int], end: int) -> list[int]:
    """`answer` up to and with its last end token; with one added where the template writes none."""
    if end not in answer:
        return [*answer, end]
    return answer[: len(answer) - answer[::-1].index(end)]
