"""One row of a published file: what it must look like, and what it becomes. Pure.

Two shapes are understood, also mixed in one file:

    {"messages": [{"role": "system"|"user"|"assistant", "content": "..."}, ...]}   the last one is the answer
    {"prompt": "...", "completion": "...", "system": "..."}                        system is optional

For dpo and reward each row has the worse answer too, as `rejected` (and may call the better one `chosen`); for kto, a
`label`. Where the pipeline trains several tasks, each row has a `task`. Rows of pretrain are texts, see
`services.data_ingest.documents`.

Text is normalised to NFC, so that the same words typed on different systems are the same row. White space is left
alone: in code, tables and poems it means something.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from shared.recipe import Objective

Message: TypeAlias = tuple[str, str]

ROLES = ("system", "user", "assistant")
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# 128 bits: among 10^10 rows the chance of one false duplicate is below 10^-18.
_DIGEST_BYTES = 16
_SHAPES = 'write {"messages": [...]} or {"prompt": ..., "completion": ...}'


class RowError(Exception):
    """A row cannot be used.

    Attributes:
        code: short and stable; problems are counted by it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Example:
    """A usable row: a conversation whose last message is the assistant's answer.

    Attributes:
        ignored: keys of the row that mean nothing here.
        rejected: for dpo and reward, an answer that is worse than the last message.
        desired: for kto, whether the last message is a good answer.
        task: what it is an example of, where the pipeline trains several tasks.
        teacher: which model answered it and how, where the row says so; it is only counted.
    """

    messages: tuple[Message, ...]
    ignored: tuple[str, ...] = ()
    rejected: str | None = None
    desired: bool | None = None
    task: str | None = None
    teacher: str | None = None

    @cached_property
    def prompt_key(self) -> bytes:
        """Digest of everything before the answer."""
        return _digest(self.messages[:-1])

    @cached_property
    def answer_key(self) -> bytes:
        """Digest of the answer."""
        return _digest(self.messages[-1:] + self._judgement)

    @property
    def id(self) -> str:
        """Digest of the whole row; equal for exact duplicates."""
        return _digest(self.messages + self._judgement).hex()

    @property
    def _judgement(self) -> tuple[Message, ...]:
        """What people said of the answer, as digests take it; nothing where there is nothing."""
        rejected = () if self.rejected is None else (("rejected", self.rejected),)
        return rejected if self.desired is None else (*rejected, ("desired", str(self.desired)))

    @cached_property
    def group(self) -> str:
        """Digest of the prompt without system messages: rows of a group are never in different splits.

        A system prompt is changed for all rows at once, and must not move what is tested on into training.
        """
        return _digest(tuple(message for message in self.messages[:-1] if message[0] != "system")).hex()


def parse_row(data: bytes, *, offset: int, objective: Objective = "sft", by_task: bool = False) -> Example:
    """The example in one line of a file.

    Args:
        offset: of the line in the file, for messages.
        objective: of the pipeline, which decides what a row must have beside its conversation.
        by_task: whether it must have a task, too.

    Raises:
        RowError: with what is wrong, where, and what to do.
    """
    row = read_object(data, offset, shapes=_SHAPES)
    judged: dict[str, Any] = {}
    if objective in ("dpo", "reward"):
        row, judged = _preference(row, objective)
    elif objective == "kto":
        row, judged = _label(row)
    if by_task:
        judged["task"], row = _task(row), {key: value for key, value in row.items() if key != "task"}
    if "messages" in row and ("prompt" in row or "completion" in row):
        raise RowError("ambiguous", 'it has both "messages" and "prompt" or "completion"; keep one of them')
    if "messages" in row:
        messages, known = _from_messages(row["messages"]), {"messages"}
    elif "prompt" in row or "completion" in row:
        messages, known = _from_prompt(row), {"prompt", "completion", "system"}
    else:
        keys = ", ".join(json.dumps(key) for key in list(row)[:5]) or "none"
        texts = "; a text alone is a row of spec.training.objective: pretrain" if "text" in row else ""
        raise RowError("unknown_shape", f"no messages and no prompt (its keys: {_short(keys)}); {_SHAPES}{texts}")
    _check_conversation(messages)
    if judged.get("rejected") == messages[-1][1]:
        raise RowError("same_answers", '"rejected" is the same text as the better answer; nothing is learned from it')
    if isinstance(row.get("teacher"), str):
        judged["teacher"], known = _short(row["teacher"]), known | {"teacher"}
    return Example(messages, tuple(key for key in row if key not in known), **judged)


def read_object(data: bytes, offset: int, *, shapes: str) -> dict[str, Any]:
    """The JSON object in one line of a file.

    Args:
        offset: of the line in the file, for messages.
        shapes: what to write instead, for messages.

    Raises:
        RowError: it is none.
    """
    row = _parse_json(_decode(data, offset))
    if not isinstance(row, dict):
        raise RowError("not_object", f"expected a JSON object, but it is {_kind(row)}; {shapes}")
    return row


def _preference(row: dict[str, Any], objective: Objective) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of dpo or reward as one of sft, and its worse answer."""
    if "rejected" not in row:
        raise RowError(
            "no_rejected",
            f'spec.training.objective is {objective}, and "rejected", the worse answer, is missing; write '
            '{"prompt": ..., "chosen": ..., "rejected": ...}, or {"messages": [...], "rejected": ...} with the better '
            "answer last"
        )
    rejected = text_value(row, "rejected", "row")
    if not rejected.strip():
        raise RowError("empty_answer", '"rejected" is empty; remove the row or say what the worse answer was')
    plain = {key: value for key, value in row.items() if key not in ("chosen", "rejected")}
    return (plain | {"completion": row["chosen"]} if "chosen" in row else plain), {"rejected": rejected}


def _label(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of kto as one of sft, and whether its answer is good."""
    label = row.get("label")
    if not isinstance(label, bool):
        raise RowError(
            "no_label",
            'spec.training.objective is kto, and "label" must be true for a good answer and false for a bad one, not '
            + _kind(label),
        )
    return {key: value for key, value in row.items() if key != "label"}, {"desired": label}


def _task(row: dict[str, Any]) -> str:
    if row.get("task") is None:
        raise RowError("no_task", 'the pipeline has spec.training.multiTask, and "task" is missing; say what kind of '
                       'row it is, such as "task": "intents"')
    task = text_value(row, "task", "row")
    if not _TASK.fullmatch(task):
        raise RowError("bad_task", f"row.task is {_short(json.dumps(task))}; write letters, digits, dots, dashes and "
                       "underscores, at most 64, because metrics are named after it")
    return task


def _decode(data: bytes, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(
            "encoding",
            f"not UTF-8: byte {error.start + 1} of the row (byte {offset + error.start} of the file, counted from 0) "
            f"is 0x{data[error.start]:02X}; save the file as UTF-8",
        ) from error


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(
            "not_json", f"not JSON: {error.msg} at character {error.pos + 1}; write one JSON object on each line"
        ) from error
    except RecursionError as error:
        raise RowError("not_json", "nested too deeply to be a row of text; write one flat JSON object") from error
    except ValueError as error:
        raise RowError("not_json", f"not JSON that can be read: {error}") from error


def _from_messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise RowError("bad_messages", f'"messages" must be a list with at least one message, not {_kind(value)}')
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise RowError("bad_messages", f'{where} must be an object with "role" and "content", not {_kind(item)}')
    role = item.get("role")
    if role not in ROLES:
        raise RowError("unknown_role", f"{where}.role is {_short(json.dumps(role))}; use {', '.join(ROLES)}")
    return role, text_value(item, "content", where)


def _from_prompt(row: dict[str, Any]) -> tuple[Message, ...]:
    if row.get("completion") is None:
        raise RowError("no_answer", '"completion" is missing; every row needs the answer to learn')
    if row.get("prompt") is None:
        raise RowError("empty_prompt", '"prompt" is missing; every row needs a question to answer')
    system = () if row.get("system") is None else (("system", text_value(row, "system", "row")),)
    return (*system, ("user", text_value(row, "prompt", "row")), ("assistant", text_value(row, "completion", "row")))


def text_value(item: dict[str, Any], key: str, where: str) -> str:
    """The text under a key, in NFC.

    Raises:
        RowError: it is something else, or no Unicode.
    """
    value = item.get(key)
    if not isinstance(value, str):
        raise RowError("not_text", f"{where}.{key} must be text, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            "encoding", f"{where}.{key} has half of a surrogate pair at character {error.start + 1}; "
            "write the character itself, or both halves"
        ) from error
    return unicodedata.normalize("NFC", value)


def _check_conversation(messages: tuple[Message, ...]) -> None:
    if messages[-1][0] != "assistant":
        raise RowError("no_answer", f"the last message is the {messages[-1][0]}'s; it must be the assistant's answer")
    if not any(role == "user" for role, _ in messages):
        raise RowError("empty_prompt", "there is no user message; every row needs a question to answer")
    for index, (role, content) in enumerate(messages):
        if role == "system" and index > 0:
            raise RowError("bad_messages", f"messages[{index}] is a system message; it can only be the first")
        if not content.strip() and role == "assistant":
            raise RowError("empty_answer", f"the assistant's message {index + 1} is empty; remove the row or answer it")
        if not content.strip() and role == "user":
            raise RowError("empty_prompt", f"the user's message {index + 1} is empty; remove the row or ask something")


def _digest(messages: tuple[Message, ...]) -> bytes:
    # With lengths, because joining texts alone would make ("ab", "c") and ("a", "bc") the same.
    canonical = "".join([f"{role}:{len(content)}:{content}" for role, content in messages])
    return hashlib.blake2b(canonical.encode(), digest_size=_DIGEST_BYTES).digest()


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return "an empty list" if value == [] else names.get(type(value), "a number")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
