"""LLaMA-Factory trains as its command line does: ``python llama_factory_loop.py JOB.json`` in its own environment.

What it took goes to the file that the job names. It ends with a message where LLaMA-Factory would train on other tokens
or in another precision than the other contenders. Imports nothing of tuneloop, which that environment lacks.
"""

import json
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens, and their labels."""


def rows_of(sequences: Iterable[Mapping[str, Sequence[int]]]) -> list[Row]:
    """The rows that sequences hold, sorted. `attention_mask` counts a sequence's rows from 1; 0 is padding."""
    found = []
    for sequence in sequences:
        mask = sequence["attention_mask"]
        for number in range(1, max(mask) + 1):
            at = [place for place, part in enumerate(mask) if part == number]
            found.append((
                tuple(sequence["input_ids"][place] for place in at), tuple(sequence["labels"][place] for place in at),
            ))
    return sorted(found)


def sequences_per_step(rows_per_step: int, rows: int, sequences: int) -> int:
    """As many sequences as hold about `rows_per_step` rows."""
    return max(1, round(rows_per_step * sequences / rows))


def check(trainer: Any, expected: Sequence[Row]) -> None:
    """Refuse to measure what cannot be compared.

    Raises:
        SystemExit: the base model is not in float32, or the tokens or labels are not those of the other contenders.
    """
    kinds = {str(parameter.dtype) for parameter in trainer.model.parameters()}
    if kinds != {"torch.float32"}:
        raise SystemExit(f"LLaMA-Factory loaded weights as {', '.join(sorted(kinds))}; the others train in float32")
    found = rows_of(trainer.train_dataset)
    if found != sorted(expected):
        differing = next((pair for pair in zip(found, sorted(expected), strict=False) if pair[0] != pair[1]), "no row")
        raise SystemExit(
            f"LLaMA-Factory made {len(found)} rows of {len(expected)}, and not the same tokens and labels. "
            f"Its template in {__file__} must fit the base model's. The first that differ: {differing}"
        )


def register_chatml() -> None:
    """ChatML whose answers end with their end token: LLaMA-Factory's own also trains the line feed after it."""
    from llamafactory.data.formatter import StringFormatter
    from llamafactory.data.template import register_template

    register_template(
        name="chatml_to_the_end",
        format_user=StringFormatter(slots=["<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n"]),
        format_assistant=StringFormatter(slots=["{{content}}<|im_end|>"]),
        format_system=StringFormatter(slots=["<|im_start|>system\n{{content}}<|im_end|>\n"]),
    )


def do_without_torchaudio() -> None:
    """LLaMA-Factory imports it at once, but only reads audio with it. Its wheels do not load beside torch for CPUs."""
    absent = ModuleType("torchaudio")
    absent.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = absent


def main(path: Path) -> None:
    """Train, and write what it took."""
    do_without_torchaudio()
    from llamafactory.train.tuner import run_exp
    from transformers import Trainer

    job: dict[str, Any] = json.loads(path.read_text())
    expected = [(tuple(row["input_ids"]), tuple(row["labels"])) for row in job["rows"]]
    taken: dict[str, float] = {}
    train = Trainer.train

    def timed(self: Any, *args: Any, **options: Any) -> Any:
        check(self, expected)
        # The trainer keeps what its arguments said when it was made, before it was known how many sequences there are.
        self.args.per_device_train_batch_size = self._train_batch_size = sequences_per_step(
            self.args.per_device_train_batch_size, len(expected), len(self.train_dataset)
        )
        began = time.process_time()
        done = train(self, *args, **options)
        taken.update(
            cpu_seconds=time.process_time() - began, before_seconds=began, steps=self.state.global_step,
            megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )
        return done

    Trainer.train = timed
    register_chatml()
    run_exp(job["arguments"])
    Path(job["taken"]).write_text(json.dumps(taken))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
