"""Reads the chart's values.yaml with its comments, which the chart's README and its schema are made from.

    # -- A value's description, on as many lines as it takes.
    # @schema {minimum: 1}
    replicas: 1

A key with such a description is a value, whatever it holds; one without it is a group of values, and its comment says
what they have in common. ``# @section -- Title`` begins a section.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_KEY = re.compile(r"^( *)([A-Za-z]\w*):")
_MARKS = ("-- ", "@schema ", "@section -- ")


class UndescribedError(ValueError):
    """A value in values.yaml that nobody has said anything about."""


@dataclass
class Comment:
    """What stands above a key."""

    text: str = ""
    is_description: bool = False
    schema: dict[str, Any] = field(default_factory=dict)
    section: str = ""


@dataclass
class Entry:
    """A value, or a group of them.

    Attributes:
        path: keys from the top.
        schema: what its ``@schema`` line says.
        children: of a group; empty for a value.
        section: of a top-level key.
    """

    path: tuple[str, ...]
    default: Any
    description: str
    schema: Mapping[str, Any]
    is_group: bool
    section: str
    children: list["Entry"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def values(self) -> Iterator["Entry"]:
        """All values in it, in their order."""
        if not self.is_group:
            yield self
        for child in self.children:
            yield from child.values()


def read_values(text: str) -> list[Entry]:
    """The top-level entries of a values.yaml.

    Raises:
        UndescribedError: a key has neither a description nor keys of its own.
    """
    defaults = yaml.safe_load(text)
    top: list[Entry] = []
    # The groups that are open, from the outside, each with its indentation.
    groups: list[tuple[int, Entry]] = []
    comment, section, value_indent = Comment(), "", None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            _add(comment, stripped[1:].strip())
        elif key := _KEY.match(line):
            indent = len(key[1])
            if value_indent is not None and indent > value_indent:
                continue
            groups = [(at, group) for at, group in groups if at < indent]
            section = comment.section or section
            entry = _entry(key[2], comment, groups, defaults, section)
            (groups[-1][1].children if groups else top).append(entry)
            value_indent = None if entry.is_group else indent
            groups += [(indent, entry)] if entry.is_group else []
            comment = Comment()
        elif not stripped:
            # A section's title stands alone; any other comment belongs to what follows it at once.
            comment = Comment(section=comment.section)
    return top


def _add(comment: Comment, text: str) -> None:
    mark = next((mark for mark in _MARKS if text.startswith(mark)), "")
    rest = text.removeprefix(mark)
    if mark == "@schema ":
        comment.schema = yaml.safe_load(rest)
    elif mark == "@section -- ":
        comment.section = rest
    else:
        comment.is_description = comment.is_description or bool(mark)
        comment.text = f"{comment.text} {rest}".strip()


def _entry(
    key: str, comment: Comment, groups: list[tuple[int, Entry]], defaults: Any, section: str
) -> Entry:
    path = (*(groups[-1][1].path if groups else ()), key)
    default = defaults
    for part in path:
        default = default[part]
    if not comment.is_description and not isinstance(default, dict):
        raise UndescribedError(f"values.yaml: {'.'.join(path)} has no description; put '# -- …' above it")
    return Entry(path, default, comment.text, comment.schema, not comment.is_description, section)
