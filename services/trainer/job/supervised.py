"""What supervised training does otherwise than TRL: packed batches, and logits of answers alone."""

from typing import Any

import torch
from peft import PromptTuningConfig
from torch.nn.functional import cross_entropy
from transformers.trainer_utils import EvalLoopOutput

from services.trainer.job.grouping import GroupedRows, length_of
from services.trainer.job.layout import Layout, layout_for
from services.trainer.job.packing import ROWS_TOKENS, collator_for, crosstalk, tolerated
from services.trainer.job.precision import in_float32
from shared.errors import InvalidInputError
from shared.prompts import IGNORED_LABEL
from shared.recipe import TrainingRecipe
from shared.telemetry import get_logger

log = get_logger(__name__)

# TRL's loss is taken where it has kernels that fold logits as they are made, and where logits would need more memory
# than the tiles in which it makes them elsewhere.
_MOST_LOGITS = 4096 * 32768


class LaidOut:
    """For trainers: batches as the recipe's `packing` says. `lay_out` comes before the training."""

    layout: Layout = Layout("off", "nothing was said")
    model: Any
    args: Any
    train_dataset: Any
    data_collator: Any
    processing_class: Any

    def lay_out(self, recipe: TrainingRecipe) -> None:
        """Decide how batches are laid out, and see that it does the model no harm.

        Raises:
            InvalidInputError: the recipe insists on packing, and the model would mix the rows of a sequence.
        """
        attention = str(getattr(self.model.config, "_attn_implementation", ""))
        layout = layout_for(recipe, attention)
        if layout.packing in ("bfd", "padding_free"):
            flash = "flash" in attention
            # There is no flash attention in float32, which tells the finest mixing from rounding.
            with torch.autocast(self.model.device.type, torch.bfloat16) if flash else in_float32(self.model):
                mixed = crosstalk(self.model, layout.packing, flash=flash)
            if mixed > tolerated(torch.bfloat16 if flash else torch.float32):
                layout = _unpacked(recipe, layout, attention, mixed)
        if layout.packing in ("bfd", "padding_free"):
            self.data_collator = collator_for(
                layout.packing, width=self.model.config.get_text_config().hidden_size,
                pad=self.processing_class.pad_token_id, flash=flash,
            )
        self.layout = layout
        log.info("batches", packing=layout.packing, why=layout.why)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.layout.packing != "grouped":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        rows = self.train_dataset if train_dataset is None else train_dataset
        return GroupedRows(
            [length_of(row) for row in rows], seed=self.args.data_seed,
            batch=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
        )


def _unpacked(recipe: TrainingRecipe, layout: Layout, attention: str, mixed: float) -> Layout:
    found = (f"with {attention} this model mixes rows that share a sequence: its logits change by {mixed:.2g} of the "
             "largest")
    if recipe.packing != "auto":
        raise InvalidInputError(f"training.packing: {layout.packing}: {found}. Write auto, grouped or off")
    return Layout("grouped", found)


class AnswerLoss:
    """For TRL's supervised trainer: the loss of packed batches, and on a CPU logits of trained tokens alone.

    Away from Triton, TRL computes the logits of every token, and entropies beside; with a large vocabulary and short
    answers that is much of the work.
    """

    model: Any
    args: Any
    accelerator: Any
    state: Any
    control: Any
    callback_handler: Any
    aux_loss_enabled: bool
    _metrics: Any

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Nats of the trained tokens, over `num_items_in_batch`, or over their number where that is not given."""
        inputs.pop(ROWS_TOKENS, None)
        targets = inputs["labels"][:, 1:]
        trained = targets != IGNORED_LABEL
        vocabulary = self.model.config.get_text_config().vocab_size
        if (
            return_outputs or self.aux_loss_enabled or targets.device.type != "cpu"
            or int(trained.sum()) * vocabulary > _MOST_LOGITS
        ):
            return super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        logits, answers = _trained_logits(model, inputs, trained, _virtual_tokens(self.model)), targets[trained]
        self._metrics["train" if self.model.training else "eval"]["mean_token_accuracy"].append(
            (logits.detach().argmax(-1) == answers).float().mean().item()
        )
        count = trained.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = cross_entropy(logits.float(), answers, reduction="sum") / count.clamp(min=1)
        # The count is of all processes, over which gradients are then averaged.
        shared = num_items_in_batch is not None and self.args.average_tokens_across_devices
        return loss * self.accelerator.num_processes if shared else loss

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Tokens of rows: transformers would take a packed batch's end tokens for padding where they look the same."""
        if ROWS_TOKENS not in inputs:
            super()._track_num_input_tokens(inputs)  # type: ignore[misc]
            return
        count = inputs[ROWS_TOKENS].to(self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.gather(count).sum().item())

    def evaluation_loop(
        self, dataloader: Any, description: str, prediction_loss_only: bool | None = None,  # noqa: ARG002
        ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean loss of all trained tokens, however they are batched; transformers' is one of batches' means."""
        model = self._wrap_model(self.model, training=False)  # type: ignore[attr-defined]
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for inputs in dataloader:
            count = int((inputs["labels"][:, 1:] != IGNORED_LABEL).sum())
            loss, _, _ = self.prediction_step(model, inputs, True, ignore_keys=ignore_keys)  # type: ignore[attr-defined]
            sums += torch.tensor([float(loss) * count, count], dtype=torch.float64, device=self.args.device)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        total, count = self.accelerator.reduce(sums, "sum").tolist()
        return EvalLoopOutput(
            predictions=None, label_ids=None, metrics={f"{metric_key_prefix}_loss": total / max(1.0, count)},
            num_samples=len(dataloader.dataset),
        )


def _trained_logits(model: Any, inputs: dict[str, Any], trained: torch.Tensor, virtual_tokens: int) -> torch.Tensor:
    """Logits of shape (trained tokens, vocabulary).

    Args:
        trained: (sequences, tokens - 1), whether the next token is trained.
        virtual_tokens: how many the model puts before each sequence.
    """
    # The last position predicts nothing that is known.
    wanted = torch.nn.functional.pad(trained, (virtual_tokens, 1))
    given = {key: value for key, value in inputs.items() if key != "labels"}
    logits: torch.Tensor = model(**given, use_cache=False, logits_to_keep=wanted).logits
    return logits


def _virtual_tokens(model: Any) -> int:
    """How many positions a model puts before those that it is given: those of prompt tuning."""
    adapter = getattr(model, "peft_config", {}).get("default")
    return int(adapter.num_virtual_tokens) if isinstance(adapter, PromptTuningConfig) else 0
