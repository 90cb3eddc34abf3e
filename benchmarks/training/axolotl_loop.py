"""axolotl trains as its command line does: ``python axolotl_loop.py JOB.json`` in its own environment.

It ends with a message where that would be on other tokens or in another precision than the other contenders'.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.training.peer_loop import Row


def sequences_of(batch: Mapping[str, Any]) -> list[dict[str, list[int]]]:
    """A batch's sequences, `attention_mask` counting their rows from 1.

    Where rows share sequences axolotl leaves the mask out, as each row's positions start at 0. So do those of the
    padding, which is told from rows by having no labels.

    Args:
        batch: tensors, one row of each a sequence.
    """
    sequences = [
        dict(zip(batch, (column.tolist() for column in columns), strict=True))
        for columns in zip(*batch.values(), strict=True)
    ]
    for sequence in sequences:
        if "position_ids" in sequence:
            numbers = list(accumulate(int(position == 0) for position in sequence["position_ids"]))
            labelled = {
                number for number, label in zip(numbers, sequence["labels"], strict=True) if label != -100
            }
            sequence["attention_mask"] = [number if number in labelled else 0 for number in numbers]
    return sequences


def before(trainer: Any, expected: "Sequence[Row]") -> None:
    """Check the rows, and have a step hold about as many of them as the others' do."""
    import torch

    from benchmarks.training.peer_loop import check, rows_of, sequences_per_step

    with torch.random.fork_rng():
        sequences = [sequence for batch in trainer.get_train_dataloader() for sequence in sequences_of(batch)]
    check("axolotl", trainer.model, rows_of(sequences), expected)
    if trainer.args.sample_packing:
        trainer.args.per_device_train_batch_size = sequences_per_step(
            trainer.args.per_device_train_batch_size, len(expected), len(sequences)
        )
        trainer.args.max_steps = -1  # axolotl computed them for batches of that many sequences as there are rows


def keep_the_last_batch() -> None:
    """axolotl leaves out the last batch of packed sequences where it is not full; the others train on all rows."""
    from axolotl.core.trainers import base

    class Whole(base.MultipackBatchSampler):  # type: ignore[misc]  # no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"drop_last": False})

    base.MultipackBatchSampler = Whole


def train(arguments: dict[str, Any]) -> None:
    """As ``axolotl train`` does."""
    from axolotl.cli.train import do_cli

    keep_the_last_batch()
    config = Path(arguments["output_dir"]).with_name("axolotl.yaml")
    config.write_text(json.dumps(arguments))  # JSON is YAML
    sys.argv = sys.argv[:1]  # it reads arguments of its own
    do_cli(str(config))


def main(path: Path) -> None:
    """Train, and write what it took."""
    from benchmarks.training.peer_loop import measure

    measure(path, before, train)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # last: no module of ours hides one of the environment's
    main(Path(sys.argv[1]))
