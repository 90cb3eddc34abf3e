"""Commands that documents tell people to type."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from services.cli.app import build_app

_BLOCK = re.compile(r"^ *```(?:console|sh)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_ENDS = {"|", ">", "&", "<", ";"}


def typed(page: str) -> Iterator[list[str]]:
    """The words of each command in a page's blocks: up to a pipe, and without what the shell does with it."""
    for block in _BLOCK.findall(page):
        prompts = re.search(r"^ *\$ ", block, re.MULTILINE) is not None
        for line in block.replace("\\\n", " ").splitlines():
            text = line.strip()
            if prompts and not text.startswith("$ "):
                continue
            words = shlex.split(text.removeprefix("$ "), comments=True)
            end = next((index for index, word in enumerate(words) if set(word) <= _ENDS), len(words))
            if words[:end]:
                yield words[:end]


def check_tuneloop(words: list[str]) -> None:
    """That `tuneloop` has such a command, with such options and no fewer arguments; `words` begin after its name."""
    command: Any = get_command(build_app())
    left = iter(words)
    while hasattr(command, "commands"):
        word = next(left, "list")
        assert word in command.commands, words
        command = command.commands[word]
    rest = list(left)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known, words
    assert len(rest) >= len([parameter for parameter in command.params if parameter.required]), words
