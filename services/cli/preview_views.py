"""Rows as people see them before a training: the trained tokens stand out, also where there are no colours. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from services.cli.output import pairs

Item = Mapping[str, Any]

_STYLES = {"context": "dim", "trained": "bold green", "end": "bold black on green", "cut": "red strike"}
# Marks for eyes and files without colours.
_MARKS = {"context": ("", ""), "trained": ("⟦", "⟧"), "end": ("⟦", "⟧"), "cut": ("✂", "✂")}
_BOUNDARY = "·"


def preview(answer: Item, *, boundaries: bool = False) -> RenderableType:
    """The counts, and the rows below them."""
    parts: list[RenderableType] = [_counts(answer), _legend(answer["end_token"])]
    for row in answer["rows"]:
        skipped = ", skipped: nothing of its answer is left to train" if row["skipped"] else ""
        parts.append(Text(f"\nrow {row['number']}{skipped}", style="bold"))
        for sequence in row["sequences"]:
            numbers = f"{len(sequence['tokens'])} tokens, {sequence['trained']} trained, {sequence['cut']} cut"
            parts.append(Text(f"{sequence['name']}: {numbers}", style="italic"))
            parts.append(Text.assemble(*_spans(sequence["tokens"], boundaries)))
    return Group(*parts)


def _counts(answer: Item) -> RenderableType:
    counts, used = answer["counts"], answer["counts"]["rows"] - answer["counts"]["skipped"]
    return pairs({
        "objective": answer["objective"], "rows": str(counts["rows"]),
        "skipped": f"{counts['skipped']}, whose prompt alone fills maxLength" if counts["skipped"] else "0",
        "cut": f"{counts['cut']} longer than maxLength {answer['max_length']}; the longest has {counts['longest']}",
        "train their end": f"{counts['with_end']} of {used}",
        "tokens": f"{counts['tokens']}, {counts['trained_tokens']} of them trained",
        "chat template": answer["chat_template_sha256"], "would be refused": answer["refusal"],
        **{f"auto {name}": chosen for name, chosen in answer["chosen"].items()},
    })


def _legend(end: str) -> Text:
    return Text.assemble("\n", ("read", _STYLES["context"]), "  ", _marked("trained", "trained"), "  ",
                         _marked(end, "end"), " ends the answer  ", _marked("cut", "cut"))


def _marked(text: str, kind: str) -> tuple[str, str]:
    before, after = _MARKS[kind]
    return f"{before}{text}{after}", _STYLES[kind]


def _spans(tokens: Sequence[Item], boundaries: bool) -> Iterator[tuple[str, str]]:
    """Neighbours of one kind together."""
    for kind, group in groupby(tokens, key=lambda token: str(token["kind"])):
        yield _marked((_BOUNDARY if boundaries else "").join(token["text"] for token in group), kind)
