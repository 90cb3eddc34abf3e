"""One contender trains on one set of rows, in a process of its own, and prints what it took as JSON.

All of them get the same rows as the same tokens, the same base model, adapter, optimizer, schedule, seed and rows per
step, and pass over the rows once; logging, validation and checkpoints are off. Loss is measured in one way for all:
each held-out row alone, without any trainer.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.training.rows import KINDS

BATCH = 16
MAX_LENGTH = 512


@dataclass(frozen=True)
class Outcome:
    """What a contender took and reached.

    Attributes:
        cpu_seconds: of the training loop, all threads of the process.
        before_seconds: of the same kind, from the process's start to the loop: imports, tokens, the model.
        tokens: real tokens of all rows; padding does not count.
        loss: mean nats per trained token of the held-out rows, after the training.
        megabytes: the most memory that the process held.
    """

    name: str
    cpu_seconds: float
    before_seconds: float
    tokens: int
    steps: int
    loss: float
    megabytes: int


def _tuneloop(rows: Any, model: Any, tokenizer: Any, output: Path) -> Any:
    from services.trainer.job.data import Splits
    from services.trainer.job.methods import lora_config
    from services.trainer.job.model import train_in_float32
    from services.trainer.job.objectives import make_trainer
    from shared.recipe import TrainingRecipe

    recipe = TrainingRecipe(batch_size=BATCH, max_length=MAX_LENGTH)
    trainer = make_trainer(
        recipe, model, Splits(rows, rows, 0, None), tokenizer=tokenizer, output=output, peft_config=lora_config(recipe),
        callbacks=[],
    )
    train_in_float32(trainer.model)
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    return trainer


def _trl(**changes: Any) -> Callable[[Any, Any, Any, Path], Any]:
    """TRL's trainer with its own defaults but for `changes` and what all contenders share."""
    def make(rows: Any, model: Any, tokenizer: Any, output: Path) -> Any:
        from trl import SFTConfig, SFTTrainer, pack_dataset

        from services.trainer.job.methods import lora_config
        from shared.recipe import TrainingRecipe

        recipe = TrainingRecipe()
        given = dict(changes)
        lengths = [len(ids) for ids in rows["input_ids"]]
        batch = BATCH
        if given.get("packing"):
            # As many sequences a step as hold about as many rows as the others have.
            rows = pack_dataset(rows, max(lengths), "bfd")
            batch = max(1, round(BATCH * len(rows) / len(lengths)))
        return SFTTrainer(
            model=model, train_dataset=rows, processing_class=tokenizer, peft_config=lora_config(recipe),
            args=SFTConfig(
                output_dir=str(output), num_train_epochs=1, per_device_train_batch_size=batch,
                learning_rate=recipe.learning_rate, lr_scheduler_type="cosine", optim="adamw_torch_fused",
                seed=recipe.seed, data_seed=recipe.seed, use_cpu=True, bf16=False, report_to=[], disable_tqdm=True,
                save_strategy="no", logging_steps=1, dataloader_pin_memory=False, max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True}, **given,
            ),
        )
    return make


NO_CHECKPOINTING: Mapping[str, Any] = {"gradient_checkpointing": False}
CONTENDERS: dict[str, Callable[[Any, Any, Any, Path], Any]] = {
    "tuneloop": _tuneloop,
    "TRL": _trl(),
    "TRL, no checkpointing": _trl(**NO_CHECKPOINTING),
    "TRL padding_free": _trl(**NO_CHECKPOINTING, padding_free=True),
    "TRL packing bfd": _trl(**NO_CHECKPOINTING, packing=True),
}


def run(name: str, model_folder: Path, kind: str, count: int, seed: int) -> Outcome:
    """Train and measure."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from shared.prompts import encode

    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.padding_side = "right"
    found = KINDS[kind](count + count // 4, seed)
    encoded = [encode(tokenizer, row["messages"], max_length=MAX_LENGTH) for row in found]
    records = [{"input_ids": row.input_ids, "labels": row.labels} for row in encoded]
    torch.manual_seed(17)
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model.config.use_cache = False
    with tempfile.TemporaryDirectory() as scratch:
        trainer = CONTENDERS[name](Dataset.from_list(records[:count]), model, tokenizer, Path(scratch))
        before_seconds = time.process_time()
        trainer.train()
        cpu_seconds = time.process_time() - before_seconds
    return Outcome(
        name=name, cpu_seconds=cpu_seconds, before_seconds=before_seconds, steps=trainer.state.global_step,
        tokens=sum(len(record["input_ids"]) for record in records[:count]),
        loss=_loss(trainer.model.eval(), records[count:]),
        megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


def _loss(model: Any, records: list[dict[str, list[int]]]) -> float:
    import torch

    nats, trained = 0.0, 0
    for record in records:
        ids, labels = torch.tensor([record["input_ids"]]), torch.tensor(record["labels"])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum"))
        trained += int((labels[1:] != -100).sum())
    return nats / trained


def main() -> None:
    """Run the contender that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    outcome = run(given.name, given.model, given.kind, given.rows, given.seed)
    print(json.dumps(asdict(outcome)), file=sys.stdout)


if __name__ == "__main__":
    main()
