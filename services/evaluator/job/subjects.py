"""The models being compared: one base in memory, and adapters that are switched on and off.

Switching must be proved, not believed: evaluations that measured the base while they thought they measured the
adapter have happened elsewhere and looked fine. So the base's output is kept from before any adapter came near it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from services.evaluator.contract import Subject
from shared.adapters.layers import LayerHooks, load_layer_adapters
from shared.adapters.virtual import KINDS, WithVirtualTokens, load_virtual_tokens
from shared.errors import InvalidInputError, PermanentError
from shared.prompts import Example

_WEIGHTS, _CONFIG, _WHOLE = "adapter_model.safetensors", "adapter_config.json", "config.json"
_PROBES = 4


class Subjects:
    """The base model of a folder, with adapters attached by name.

    Weights are computed with in float32: on CPUs without bfloat16 arithmetic it is four times faster, and comparing
    two adapters should not depend on rounding.

    Args:
        probes: examples on which it is checked that adapters are off and on; the first few are used.
    """

    def __init__(self, base: Path, probes: Sequence[Example]) -> None:
        self._base = _load(base)
        self._model = self._base
        self._probes = list(probes[:_PROBES])
        self._reference = self._probe(self._base)
        self._peft: set[Subject] = set()
        # Those that PEFT does not attach: whole models, and the base with virtual tokens before each row.
        self._others: dict[Subject, Any] = {}
        self._layered: Subject | None = None
        self._layers = LayerHooks(self._base, lambda rows: [self._layered] * rows)

    def attach(self, subject: Subject, adapter: Path, *, name: str) -> None:
        """Put an adapter, or a whole model, beside those that are there, switched off.

        Args:
            name: what to call it in messages for people.

        Raises:
            InvalidInputError: it is not an adapter in safetensors, or not one for this base.
            PermanentError: it changes nothing, or the base does not stay the same with it.
        """
        if (adapter / _WHOLE).is_file() and not (adapter / _CONFIG).is_file():
            self._others[subject] = _load(adapter)
            self._check_output(subject, name)
            return
        missing = [file for file in (_WEIGHTS, _CONFIG) if not (adapter / file).is_file()]
        if missing:
            raise InvalidInputError(f"{name} is not an adapter: {' and '.join(missing)} missing")
        kind = json.loads((adapter / _CONFIG).read_text("utf-8")).get("peft_type")
        try:
            with self.active("base"):
                if kind in KINDS:
                    self._others[subject] = WithVirtualTokens(self._base, load_virtual_tokens(adapter, self._base))
                elif kind != "LORA":
                    self._layers.add(subject, load_layer_adapters(adapter))
            if kind == "LORA":
                self._attach_peft(subject, adapter)
        except (RuntimeError, ValueError, KeyError, TypeError, InvalidInputError) as error:
            raise InvalidInputError(f"{name} does not fit the base model: {error}") from error
        if kind == "LORA":
            self._check_weights(subject, adapter / _WEIGHTS, name)
        self._check_output(subject, name)

    def _attach_peft(self, subject: Subject, adapter: Path) -> None:
        if self._peft:
            self._model.load_adapter(str(adapter), adapter_name=subject)
        else:
            self._model = PeftModel.from_pretrained(self._base, str(adapter), adapter_name=subject)
        self._model.eval()
        self._peft.add(subject)

    @contextmanager
    def active(self, subject: Subject) -> Iterator[Any]:
        """The model of a subject, for the time of the block."""
        if subject in self._peft:
            self._model.set_adapter(subject)
            yield self._model
            return
        with self._model.disable_adapter() if self._peft else nullcontext():
            self._layered = subject if subject in self._layers else None
            try:
                yield self._others.get(subject, self._base)
            finally:
                self._layered = None

    def _check_weights(self, subject: Subject, file: Path, name: str) -> None:
        """Every weight of the file must be in the model, and no other: PEFT only warns, and invents what is missing."""
        stored = load_file(file).keys()
        used = get_peft_model_state_dict(self._model, adapter_name=subject, save_embedding_layers=False).keys()
        problems = [
            f"{what} {', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''}"
            for what, names in (("it has no weights for", used - stored), ("the base has no place for", stored - used))
            if names
        ]
        if problems:
            raise InvalidInputError(f"{name} does not fit the base model: {'; '.join(problems)}")

    def _check_output(self, subject: Subject, name: str) -> None:
        with self.active("base") as model:
            if not torch.equal(self._probe(model), self._reference):
                raise PermanentError(f"{name}: with it attached and switched off, the base model answers differently")
        with self.active(subject) as model:
            if torch.equal(self._probe(model), self._reference):
                raise PermanentError(
                    f"{name} changes nothing: with it the base model's output is exactly the same. It was never "
                    "trained, or its weights are for modules that this base model does not have"
                )

    @torch.inference_mode()
    def _probe(self, model: Any) -> torch.Tensor:
        """Logits after each probe's prompt."""
        logits = [
            model(input_ids=torch.tensor([probe.input_ids[: probe.prompt_length]]), logits_to_keep=1).logits
            for probe in self._probes
        ]
        return torch.cat(logits)


def _load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
