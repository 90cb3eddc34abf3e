"""Distillation from a teacher's distribution over tokens (Hinton et al., arXiv 1503.02531), on the answers of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.trainer.job.base import fetch_base, parameters_of
from shared.errors import InvalidInputError, NotFoundError
from shared.events import ArtifactRef
from shared.prompts import IGNORED_LABEL, Tokenizer
from shared.recipe_checks import MERGEABLE
from shared.recipe_parts import Distillation
from shared.s3 import ArtifactStore

_ADAPTER = "spec.training.distillation.adapter"
_TEACHER = "training.distillation.teacher"


@dataclass(frozen=True)
class Teacher:
    """A model to learn from, and where it came from.

    Attributes:
        lineage: names and digests, for the manifest of what learns from it.
    """

    model: Any
    lineage: Mapping[str, str]


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, *, alpha: float, temperature: float
) -> torch.Tensor:
    """``alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross entropy``, in nats, summed over tokens.

    Both distributions of the divergence are at temperature T; the factor keeps its gradients, which shrink by T^2, of
    one size with those of the cross entropy (arXiv 1503.02531, section 2). The cross entropy is at temperature 1.

    Args:
        student, teacher: logits, (tokens, vocabulary). A vocabulary that one of the models has padded is cut.
        labels: the rows' own tokens, (tokens,).
    """
    width = min(student.shape[-1], teacher.shape[-1])
    hot, soft = (log_softmax(logits[:, :width].float() / temperature, dim=-1) for logits in (student, teacher))
    divergence = kl_div(hot, soft, log_target=True, reduction="sum")
    hard = cross_entropy(student.float(), labels, reduction="sum")
    return alpha * temperature**2 * divergence + (1 - alpha) * hard


class Distils:
    """For TRL's supervised trainer: the loss is that of distillation. So is a validation's, by which the best weights
    are chosen.
    """

    accelerator: Any
    args: Any
    _teacher: Any
    _rule: Distillation

    def learn_from(self, teacher: Teacher, rule: Distillation) -> None:
        """Say whom to learn from; before the training."""
        self._teacher, self._rule = teacher.model.to(self.args.device), rule

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the trained tokens, over `num_items_in_batch`, or over their number where that is not given."""
        labels = inputs["labels"][:, 1:]
        trained = labels != IGNORED_LABEL
        read = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
        outputs = model(**read)
        with torch.no_grad():
            taught = self._teacher(**read).logits
        total = distillation_loss(
            outputs.logits[:, :-1][trained], taught[:, :-1][trained], labels[trained],
            alpha=self._rule.alpha, temperature=self._rule.temperature,
        )
        count = trained.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = total / count.to(total.device).clamp(min=1)
        # The count is of all processes, over which gradients are then averaged.
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def teacher_parameters(store: ArtifactStore, recipe: Distillation | None, cache: Path) -> int:
    """How many weights the teacher of a recipe has; 0 without one, and where its shape is not known.

    Raises:
        NotFoundError: it is not in S3.
    """
    if recipe is None:
        return 0
    _, folder = fetch_base(store, recipe.teacher, cache, key=_TEACHER)
    return parameters_of(folder)


def load_teacher(
    store: ArtifactStore, recipe: Distillation, tokenizer: Tokenizer, *, cache: Path, scratch: Path
) -> Teacher:
    """The teacher of a recipe.

    Raises:
        NotFoundError: it, or its adapter, is not in S3.
        InvalidInputError: its tokens are not the student's, or its adapter is none that PEFT loads.
    """
    digest, folder = fetch_base(store, recipe.teacher, cache, key=_TEACHER)
    check_same_tokens(tokenizer, AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    dtype = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False
    )
    lineage = {"teacher": recipe.teacher, "teacher_digest": digest}
    if recipe.adapter is not None:
        ref = _adapter_ref(store, recipe.adapter, recipe.teacher)
        store.get_dir(ref, scratch / "teacher-adapter")
        try:
            model = PeftModel.from_pretrained(model, str(scratch / "teacher-adapter"))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(f"{_ADAPTER}: {recipe.adapter} does not fit {recipe.teacher}: {error}") from error
        lineage |= {"teacher_adapter": ref.uri, "teacher_adapter_digest": ref.digest}
    return Teacher(model.eval().requires_grad_(False), lineage)


def _adapter_ref(store: ArtifactStore, uri: str, teacher: str) -> ArtifactRef:
    manifest = store.manifest(uri)
    if manifest is None:
        raise NotFoundError(f"{_ADAPTER}: there is no {uri}manifest.json; `tuneloop models get` shows where one is")
    base, merged = manifest.meta.get("base_model"), manifest.meta.get("merged")
    if base != teacher:
        raise InvalidInputError(f"{_ADAPTER}: {uri} is an adapter of {base}, and the teacher is {teacher}")
    method = manifest.meta.get("method")
    if method not in MERGEABLE or merged:
        how = f"{method}{' and merged' if merged else ''}"
        raise InvalidInputError(f"{_ADAPTER}: {uri} was trained with {how}; a teacher's adapter is one of "
                                f"{', '.join(sorted(MERGEABLE))}. A whole model is a teacher of its own: put it under "
                                "base-models/NAME/")
    return ArtifactRef(uri=uri, digest=manifest.digest)


def check_same_tokens(student: Tokenizer, teacher: Tokenizer) -> None:
    """Refuse a teacher whose tokens are others: its distribution would be over other words.

    Raises:
        InvalidInputError: with how many differ.
    """
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if mine != theirs:
        differ = len(mine.items() ^ theirs.items())
        raise InvalidInputError(
            f"spec.training.distillation.teacher: its tokenizer is not the student's: {differ} tokens differ, so its "
            "distribution cannot be learned. Take a teacher of the same family, or train on its answers (`tuneloop "
            "teach`, then objective: sft)"
        )
