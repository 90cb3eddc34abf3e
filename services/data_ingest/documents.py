"""A row of text for continued pre-training: ``{"text": "..."}``. Pure.

Cleaning takes away what no reader sees and no model should write: the form in which letters are composed, the kind of
line end, a byte order mark, control characters. All else stays: indentation, tabs, blank lines and trailing spaces
mean something in code, tables and poems.
"""

import re
from dataclasses import dataclass

from services.data_ingest.examples import Example, RowError, read_object, text_value

_SHAPES = 'write {"text": "..."}'
_LINE_END = re.compile(r"\r\n?")
# Unicode's category Cc but tab, line feed, next line, and form feed, which sources have between their parts.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True)
class Document(Example):
    """A text that stands for itself: one message, which is no answer to anything."""

    @property
    def text(self) -> str:
        return self.messages[0][1]

    @property
    def prompt_key(self) -> bytes:
        """Its own: no two different texts are answers to one question."""
        return self.answer_key

    @property
    def group(self) -> str:
        """Its own: each text is in one split."""
        return self.id


def parse_document(data: bytes, *, offset: int) -> Document:
    """The text in one line of a file.

    Args:
        offset: of the line in the file, for messages.

    Raises:
        RowError: with what is wrong, where, and what to do.
    """
    row = read_object(data, offset, shapes=_SHAPES)
    if row.get("text") is None:
        remedy = "; questions with answers are rows of objective: sft" if {"messages", "prompt"} & row.keys() else ""
        raise RowError("no_text", f'spec.training.objective is pretrain, and "text" is missing; {_SHAPES}{remedy}')
    text = clean(text_value(row, "text", "row"))
    if not text.strip():
        raise RowError("empty_text", '"text" is empty; remove the row')
    return Document((("text", text),), tuple(key for key in row if key != "text"))


def clean(text: str) -> str:
    """A text with line feeds as line ends, and without byte order mark and control characters."""
    return _CONTROL.sub("", _LINE_END.sub("\n", text.removeprefix("\ufeff")))
