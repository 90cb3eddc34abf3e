"""What the trainers in environments of their own share there: the check of their rows, and what their loop took.

Imports nothing of tuneloop, which those environments lack.
"""

import json
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
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


def check(who: str, model: Any, found: Sequence[Row], expected: Sequence[Row]) -> None:
    """Refuse to measure what cannot be compared.

    Args:
        found: sorted, as `rows_of` gives them.

    Raises:
        SystemExit: the base model is not in float32, or the tokens or labels are not those of the other contenders.
    """
    kinds = {str(parameter.dtype) for parameter in model.parameters()}
    if kinds != {"torch.float32"}:
        raise SystemExit(f"{who} loaded weights as {', '.join(sorted(kinds))}; the others train in float32")
    if found != sorted(expected):
        differing = next((pair for pair in zip(found, sorted(expected), strict=False) if pair[0] != pair[1]), "no row")
        raise SystemExit(
            f"{who} made {len(found)} rows of {len(expected)}, and not the same tokens and labels. "
            f"The template that it is given must fit the base model's. The first that differ: {differing}"
        )


def measure(path: Path, before: Callable[[Any, Sequence[Row]], None], train: Callable[[Any], None]) -> None:
    """Have a job trained, and write what `Trainer.train` took to the file that the job names.

    Args:
        path: the job, as `benchmarks.training.peers` writes it.
        before: called with the trainer and the rows of the other contenders, before the loop.
        train: trains with the arguments that the job holds.
    """
    from transformers import Trainer

    job: dict[str, Any] = json.loads(path.read_text())
    expected = [(tuple(row["input_ids"]), tuple(row["labels"])) for row in job["rows"]]
    taken: dict[str, float] = {}
    loop = Trainer.train

    def timed(self: Any, *args: Any, **options: Any) -> Any:
        before(self, expected)
        began = time.process_time()
        done = loop(self, *args, **options)
        taken.update(
            cpu_seconds=time.process_time() - began, before_seconds=began, steps=self.state.global_step,
            megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )
        return done

    Trainer.train = timed
    train(job["arguments"])
    Path(job["taken"]).write_text(json.dumps(taken))
