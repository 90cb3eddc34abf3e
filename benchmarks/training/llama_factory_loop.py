"""LLaMA-Factory trains as its command line does: ``python llama_factory_loop.py JOB.json`` in its own environment.

It ends with a message where that would be on other tokens or in another precision than the other contenders'.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.training.peer_loop import Row


def before(trainer: Any, expected: "Sequence[Row]") -> None:
    """Check the rows, and have a step hold about as many of them as the others' do."""
    from benchmarks.training.peer_loop import check, rows_of, sequences_per_step

    check("LLaMA-Factory", trainer.model, rows_of(trainer.train_dataset), expected)
    # The trainer keeps what its arguments said when it was made, before it was known how many sequences there are.
    trainer.args.per_device_train_batch_size = trainer._train_batch_size = sequences_per_step(
        trainer.args.per_device_train_batch_size, len(expected), len(trainer.train_dataset)
    )


def train(arguments: dict[str, Any]) -> None:
    """As ``llamafactory-cli train`` does."""
    from llamafactory.train.tuner import run_exp

    register_chatml()
    run_exp(arguments)


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
    from benchmarks.training.peer_loop import measure

    do_without_torchaudio()
    measure(path, before, train)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))  # last: no module of ours hides one of the environment's
    main(Path(sys.argv[1]))
