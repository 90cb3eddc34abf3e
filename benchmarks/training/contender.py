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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.training import axolotl, llama_factory
from benchmarks.training.outcome import BATCH, MAX_LENGTH, Outcome, base_model, data_of, held_out_loss
from benchmarks.training.peer_loop import sequences_per_step
from benchmarks.training.rows import KINDS


def _tuneloop(rows: Any, model: Any, tokenizer: Any, output: Path) -> Any:
    from services.trainer.job.data import Splits
    from services.trainer.job.methods import lora_config
    from services.trainer.job.objectives import make_trainer
    from services.trainer.job.precision import train_in_float32
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
            rows = pack_dataset(rows, max(lengths), "bfd")
            batch = sequences_per_step(BATCH, len(lengths), len(rows))
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
PEERS = (llama_factory.PEER, axolotl.PEER)


def run(name: str, model_folder: Path, kind: str, count: int, seed: int) -> Outcome:
    """Train and measure."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.padding_side = "right"
    data = data_of(tokenizer, kind, count, seed)
    torch.manual_seed(17)
    model = base_model(model_folder)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = CONTENDERS[name](Dataset.from_list(data.trained), model, tokenizer, Path(scratch))
        before_seconds = time.process_time()
        trainer.train()
        cpu_seconds = time.process_time() - before_seconds
    return Outcome(
        name=name, cpu_seconds=cpu_seconds, before_seconds=before_seconds, steps=trainer.state.global_step,
        tokens=data.tokens, loss=held_out_loss(trainer.model, data.held_out),
        megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


def main() -> None:
    """Run the contender that the arguments name."""
    parser = argparse.ArgumentParser()
    by_peers = {name: peer.run for peer in PEERS for name in peer.contenders}
    parser.add_argument("name", choices=[*CONTENDERS, *by_peers])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    outcome = by_peers.get(given.name, run)(given.name, given.model, given.kind, given.rows, given.seed)
    print(json.dumps(asdict(outcome)), file=sys.stdout)


if __name__ == "__main__":
    main()
