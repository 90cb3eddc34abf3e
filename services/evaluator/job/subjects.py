"""The models being compared: one base in memory, and adapters that are switched on and off.

Switching must be proved, not believed: evaluations that measured the base while they thought they measured the
adapter have happened elsewhere and looked fine. So the base's output is kept from before any adapter came near it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from services.evaluator.contract import Subject
from shared.errors import InvalidInputError, PermanentError
from shared.prompts import Example

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PROBES = 4


class Subjects:
    """The base model of a folder, with adapters attached by name.

    Weights are computed with in float32: on CPUs without bfloat16 arithmetic it is four times faster, and comparing
    two adapters should not depend on rounding.

    Args:
        probes: examples on which it is checked that adapters are off and on; the first few are used.
    """

    def __init__(self, base: Path, probes: Sequence[Example]) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        ).eval()
        self._probes = list(probes[:_PROBES])
        self._reference = self._probe()
        self._attached: set[Subject] = set()

    def attach(self, subject: Subject, adapter: Path, *, name: str) -> None:
        """Put an adapter beside those that are there, switched off.

        Args:
            name: what to call it in messages for people.

        Raises:
            InvalidInputError: it is not an adapter in safetensors, or not one for this base.
            PermanentError: it changes nothing, or the base does not stay the same with it.
        """
        missing = [file for file in (_WEIGHTS, _CONFIG) if not (adapter / file).is_file()]
        if missing:
            raise InvalidInputError(f"{name} is not an adapter: {' and '.join(missing)} missing")
        try:
            if self._attached:
                self._model.load_adapter(str(adapter), adapter_name=subject)
            else:
                self._model = PeftModel.from_pretrained(self._model, str(adapter), adapter_name=subject)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(f"{name} does not fit the base model: {error}") from error
        self._model.eval()
        self._attached.add(subject)
        self._check_weights(subject, adapter / _WEIGHTS, name)
        self._check_output(subject, name)

    @contextmanager
    def active(self, subject: Subject) -> Iterator[Any]:
        """The model of a subject, for the time of the block."""
        if subject == "base":
            if not self._attached:
                yield self._model
                return
            with self._model.disable_adapter():
                yield self._model
            return
        self._model.set_adapter(subject)
        yield self._model

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
        with self.active("base"):
            if not torch.equal(self._probe(), self._reference):
                raise PermanentError(f"{name}: with it attached and switched off, the base model answers differently")
        with self.active(subject):
            if torch.equal(self._probe(), self._reference):
                raise PermanentError(
                    f"{name} changes nothing: with it the base model's output is exactly the same. It was never "
                    "trained, or its weights are for modules that this base model does not have"
                )

    @torch.inference_mode()
    def _probe(self) -> torch.Tensor:
        """Logits after each probe's prompt."""
        logits = [
            self._model(input_ids=torch.tensor([probe.input_ids[: probe.prompt_length]]), logits_to_keep=1).logits
            for probe in self._probes
        ]
        return torch.cat(logits)
