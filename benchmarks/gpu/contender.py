"""One contender trains a base of random weights in a process of its own, and prints how fast as JSON."""

import argparse
import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.training.peer_loop import sequences_per_step
from shared.clock import monotonic
from shared.recipe import TrainingRecipe

# The first steps compile kernels and fill the allocator; they are taken, and not timed.
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Work:
    """What every contender is given.

    Attributes:
        longest: tokens of the longest row; most are far shorter.
    """

    base: Path
    method: str
    rows: int
    longest: int
    batch: int
    seed: int

    @property
    def recipe(self) -> TrainingRecipe:
        """As tuneloop trains it; all that it leaves open is chosen by the machine."""
        return TrainingRecipe.model_validate({
            "method": self.method, "batch_size": self.batch, "max_length": self.longest, "epochs": 1, "seed": self.seed,
            **({"learning_rate": 1e-5} if self.method == "full" else {}),
        })


@dataclass(frozen=True)
class Speed:
    """What a contender did.

    Attributes:
        tokens: real ones of the timed steps; padding does not count.
        seconds: of the timed steps, by the clock.
        lengths: tokens of all rows.
        peak: bytes of the GPU's memory at most; 0 on a CPU.
        bfloat16: whether matrix products were.
    """

    tokens: int
    seconds: float
    lengths: list[int]
    peak: int
    bfloat16: bool


def rows_of(work: Work, vocabulary: int) -> list[dict[str, list[int]]]:
    """Random tokens, all of them trained; the logs of lengths are normal, as those of conversations are about."""
    draw = random.Random(work.seed)  # noqa: S311 - rows to train on, no secret
    middle = work.longest / 6
    lengths = [min(work.longest, max(8, round(middle * draw.lognormvariate(0.0, 0.9)))) for _ in range(work.rows)]
    rows = ([draw.randrange(8, vocabulary) for _ in range(length)] for length in lengths)
    return [{"input_ids": row, "labels": row} for row in rows]


def _tuneloop(work: Work, rows: Any, tokenizer: Any, output: Path) -> Any:
    from services.trainer.job.data import Splits
    from services.trainer.job.methods import lora_config
    from services.trainer.job.model import load_model
    from services.trainer.job.objectives import make_trainer
    from services.trainer.job.precision import train_in_float32

    recipe = work.recipe
    trainer = make_trainer(
        recipe, load_model(work.base, recipe), Splits(rows, rows, 0, None), tokenizer=tokenizer, output=output,
        peft_config=None if work.method == "full" else lora_config(recipe), callbacks=[],
    )
    train_in_float32(trainer.model)
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    return trainer


def _trl(**changes: Any) -> Callable[[Work, Any, Any, Path], Any]:
    """TRL with its own defaults but for `changes`, with the base in bfloat16 as its examples load it."""
    def make(work: Work, rows: Any, tokenizer: Any, output: Path) -> Any:
        import torch
        from transformers import AutoModelForCausalLM
        from trl import SFTConfig, SFTTrainer, pack_dataset

        from services.trainer.job.methods import lora_config

        gpu, batch = torch.cuda.is_available(), work.batch
        if changes.get("packing"):
            before, rows = len(rows), pack_dataset(rows, work.longest, "bfd")
            batch = sequences_per_step(batch, before, len(rows))
        held = torch.bfloat16 if gpu and work.method != "full" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(work.base, dtype=held, local_files_only=True)
        model.config.use_cache = False
        return SFTTrainer(
            model=model, train_dataset=rows, processing_class=tokenizer,
            peft_config=None if work.method == "full" else lora_config(work.recipe),
            args=SFTConfig(
                output_dir=str(output), num_train_epochs=1, per_device_train_batch_size=batch, bf16=gpu,
                use_cpu=not gpu, learning_rate=work.recipe.learning_rate, seed=work.seed, report_to=[],
                disable_tqdm=True, save_strategy="no", logging_steps=1, dataloader_pin_memory=gpu, max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True}, **changes,
            ),
        )
    return make


CONTENDERS: dict[str, Callable[[Work, Any, Any, Path], Any]] = {
    "tuneloop": _tuneloop, "TRL": _trl(), "TRL packing bfd": _trl(packing=True),
}
"""The others train LoRA and in full; QLoRA is tuneloop's alone here."""


def timed(trainer: Any) -> tuple[int, float]:
    """Train; the real tokens and the seconds of the steps after the first few.

    Raises:
        ValueError: there were no others.
    """
    import torch
    from transformers import TrainerCallback

    marks: list[tuple[float, int]] = []

    class Marks(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - its signature
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            marks.append((monotonic(), int(state.num_input_tokens_seen)))

    trainer.add_callback(Marks())
    trainer.args.include_num_input_tokens_seen = "non_padding"
    trainer.train()
    if len(marks) <= WARM_UP_STEPS:
        raise ValueError(f"{len(marks)} steps are too few to time any after {WARM_UP_STEPS}: raise --rows, or lower "
                         "--batch")
    (begun, before), (ended, after) = marks[WARM_UP_STEPS - 1], marks[-1]
    return after - before, ended - begun


def run(name: str, work: Work) -> Speed:
    """Train and measure."""
    import torch
    from datasets import Dataset
    from transformers import AutoConfig, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(work.base, local_files_only=True)
    tokenizer.padding_side = "right"
    rows = rows_of(work, AutoConfig.from_pretrained(work.base, local_files_only=True).vocab_size)
    torch.manual_seed(work.seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = CONTENDERS[name](work, Dataset.from_list(rows), tokenizer, Path(scratch))
        tokens, seconds = timed(trainer)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Speed(tokens, seconds, [len(row["input_ids"]) for row in rows], peak, bool(trainer.args.bf16))


def main(given: Sequence[str] | None = None) -> None:
    """Run the contender that the arguments name; the work is JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("work")
    options = parser.parse_args(given)
    values = json.loads(options.work)
    warnings.simplefilter("ignore")
    print(json.dumps(asdict(run(options.name, Work(**values | {"base": Path(values["base"])})))), file=sys.stdout)


if __name__ == "__main__":
    main()
