"""Proof that training changed what the model says, and that what was saved says the same.

Both have gone wrong elsewhere and looked fine: adapters that were never switched on, and files that load into
something else than what was trained. So the logits of a few validation rows are compared: of the base, of what was
trained, and of what the saved files load into.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from services.trainer.job.kernels import without_flash
from services.trainer.job.masks import masks_of
from services.trainer.job.precision import NARROW, in_float32
from services.trainer.job.shards import is_sharded, storage_of, whole
from shared.adapters.bottleneck import bottlenecks_of, load_bottlenecks
from shared.errors import PermanentError
from shared.recipe import TrainingRecipe

ROWS = 2
TOKENS = 32
TAIL = 8
"""Logits of a row's last so many positions are compared: virtual tokens before a row do not shift them."""
UNCHANGED = 1e-6
"""Of the largest logit. An adapter that was never trained adds exact zeros; one step at any usual rate is far above."""
LOADED = 1e-3
"""Of the largest logit. Adapters are stored as they are; a GPU may sum in another order."""
MERGED = 2e-2
"""Of the largest logit. A merged matrix rounds once what base and adapter round apart."""
ROUNDED = 1e-1
"""Of the largest logit. Merged into the base as it is stored, what was trained on its rounding to bfloat16 differs by
that where it is stored in float32: by at most a 512th of each weight, which adds up over blocks."""


class Proof:
    """The base's logits on a few rows, and what is to be compared with them.

    Args:
        model: the base, before a method has put anything on it.
        rows: token rows of the objective, as `services.trainer.job.rows` makes them.
        leads: whether this process writes the files; of a sharded model all of them must look, at the same time.
    """

    def __init__(
        self, model: Any, recipe: TrainingRecipe, rows: Iterable[Mapping[str, Any]], *, leads: bool = True
    ) -> None:
        self._recipe, self._leads = recipe, leads
        self._probes, self._narrow = probes_of(rows), model.dtype == NARROW
        # PEFT's adapters can be switched off; of all else the base must be asked before it is changed. Where it will
        # be trained: another device sums in another order.
        kept = recipe.method in ("full", "adapter")
        self._base = logits_of(model if is_sharded(model) else model.to(_device()), self._probes) if kept else None

    def of(self, model: Any, saved: Path, *, name: str, learning_rate: float) -> dict[str, float]:
        """The largest change of a logit by training, and the largest error of what was saved: in a logit, and for
        full training, whose files are compared without loading them, in a weight.

        Args:
            model: as trained, with the weights that were saved.
            saved: the folder that they were saved to.
            name: what adapters call their base.
            learning_rate: that was trained with.

        Raises:
            PermanentError: training changed nothing, or what was saved is something else.
        """
        if not self._probes:
            return {}
        trained = logits_of(model, self._probes)
        base = self._base
        if base is None:
            with model.disable_adapter():
                base = logits_of(model, self._probes)
        scale = float(trained.abs().max())
        change = _largest(trained, base)
        if not change > UNCHANGED * scale:
            raise PermanentError(_nothing(learning_rate, self._recipe.epochs, len(self._probes)))
        error = self._error(model, saved, trained)
        allowed = self._allowed() * scale
        if not error <= allowed:
            raise PermanentError(
                f"the saved files of {name}'s {self._recipe.method} load into another model than was trained: it is "
                f"off by {error:.3g}, and at most {allowed:.3g} is rounding. This is a fault of tuneloop or of one of "
                "its libraries' versions; please report it with the recipe"
            )
        return {"logit_change": change, "logit_error": error}

    def _allowed(self) -> float:
        """The largest error that is rounding, as a share of the largest logit."""
        if self._recipe.merge:
            # Merged into full precision, what was trained on a 4-bit base differs by what 4 bits had rounded away.
            return math.inf if self._recipe.method == "qlora" else ROUNDED if self._narrow else MERGED
        return 0.0 if self._recipe.method == "full" else LOADED

    def _error(self, model: Any, saved: Path, trained: torch.Tensor) -> float:
        if self._recipe.method == "full":
            return _error_of_weights(model, saved, compares=self._leads)
        if self._recipe.merge:
            whole: Any = AutoModelForCausalLM.from_pretrained(
                saved, dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
            return _largest(logits_of(whole, self._probes), trained)
        if isinstance(model, PeftModel):
            model.load_adapter(str(saved), adapter_name="saved", is_trainable=False)
            model.set_adapter("saved")
        else:
            _load_bottlenecks(model, saved)
        return _largest(logits_of(model, self._probes), trained)


def probes_of(rows: Iterable[Mapping[str, Any]]) -> list[list[int]]:
    """The tokens of the first few rows, cut to a length that any machine computes in a moment."""
    found = []
    for row, _ in zip(rows, range(ROWS), strict=False):
        ids = row["input_ids"] if "input_ids" in row else masks_of(row)[0].ids
        found.append(list(ids[:TOKENS]))
    return found


def logits_of(model: Any, probes: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits after the last `TAIL` tokens of each probe, (sum of tokens, outputs), in float32 on the CPU."""
    training = model.training
    model.eval()
    try:
        # Compared at full precision, whatever it was trained in; there is no flash attention in it.
        with in_float32(model), without_flash(model):
            found = []
            for probe in probes:
                ids = torch.tensor([list(probe)], device=model.device)
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
                found.append(logits[-TAIL:].float().cpu())
            return torch.cat(found)
    finally:
        model.train(training)


def _device() -> torch.device:
    """Of several processes each has its own GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def _error_of_weights(model: Any, folder: Path, *, compares: bool) -> float:
    """The largest difference between a model's weights and those in its files, which need no second model in memory.

    Args:
        compares: whether this process has the files; others help to gather what is sharded, and find no difference.
    """
    own, worst = model.state_dict(), 0.0
    stored: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as content:
            stored |= dict.fromkeys(content.keys(), file)
    for key, value in own.items():
        trained = whole(value.detach())
        if compares and key in stored:
            with safe_open(stored[key], framework="pt") as content:
                worst = max(worst, _largest(content.get_tensor(key).float(), trained.float().cpu()))
    # Tied weights are stored once, under one of their names.
    places = {storage_of(own[key]) for key in stored}
    missing = [key for key, value in own.items() if key not in stored and storage_of(value) not in places]
    return float("inf") if missing and compares else worst


def _load_bottlenecks(model: Any, folder: Path) -> None:
    """Give a model's bottlenecks the weights of the files: exactly one for each of them."""
    loaded = {path.replace(".", "/"): layer.state_dict() for path, layer in load_bottlenecks(folder).items()}
    own = bottlenecks_of(model)
    if loaded.keys() != dict(own.items()).keys():
        raise PermanentError(f"{folder.name} has bottlenecks for other layers than were trained")
    for path, layer in own.items():
        layer.load_state_dict(loaded[path])


def _nothing(learning_rate: float, epochs: float, rows: int) -> str:
    return (
        f"training changed nothing: with and without it the model says the same of {rows} validation rows. Either "
        f"its steps were too small (training.learningRate is {learning_rate:g}, training.epochs "
        f"{epochs:g}) or no gradient reached "
        "the trained weights; raise the learning rate or the epochs, or adapt other layers"
    )
