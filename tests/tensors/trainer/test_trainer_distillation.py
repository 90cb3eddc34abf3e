"""The loss of distillation against a case worked out by hand, and teachers that are refused."""

import math

import pytest
import torch

from services.trainer.job.distillation import check_same_tokens, distillation_loss
from shared.errors import InvalidInputError

# Two tokens, of which the teacher gives the first one 3/4 at temperature 1; the student has no opinion.
STUDENT, TEACHER, LABEL = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]]), torch.tensor([0])


def loss(alpha: float, temperature: float) -> float:
    return float(distillation_loss(STUDENT, TEACHER, LABEL, alpha=alpha, temperature=temperature))


def test_the_divergence_is_from_the_teacher_to_the_student() -> None:
    # 3/4 ln(3/4 : 1/2) + 1/4 ln(1/4 : 1/2)
    assert loss(1.0, 1.0) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert loss(1.0, 1.0) == pytest.approx(0.130812, abs=1e-6)


def test_a_temperature_softens_both_and_is_made_up_for_by_its_square() -> None:
    # At 2, 3 : 1 becomes sqrt(3) : 1.
    first = math.sqrt(3) / (math.sqrt(3) + 1)
    divergence = first * math.log(first / 0.5) + (1 - first) * math.log((1 - first) / 0.5)
    assert loss(1.0, 2.0) == pytest.approx(4 * divergence)
    assert loss(0.25, 2.0) == pytest.approx(0.25 * 4 * divergence + 0.75 * math.log(2))


def test_tokens_are_summed_and_a_vocabulary_that_one_has_padded_is_cut() -> None:
    student = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    teacher = torch.tensor([[math.log(3), 0.0, 9.0], [math.log(3), 0.0, 9.0]])
    labels = torch.tensor([0, 1])
    found = distillation_loss(student, teacher, labels, alpha=0.5, temperature=1.0)
    assert float(found) == pytest.approx(2 * (0.5 * 0.130812 + 0.5 * math.log(2)), abs=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = distillation_loss(logits, logits.detach(), torch.zeros(5, dtype=torch.long), alpha=1.0, temperature=3.0)
    found.backward()  # type: ignore[no-untyped-call]
    assert float(found.detach()) == pytest.approx(0.0, abs=1e-6)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6


class Words:
    def __init__(self, *words: str) -> None:
        self._words = words

    def get_vocab(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self._words)}


def test_a_teacher_with_other_tokens_is_refused() -> None:
    check_same_tokens(Words("a", "b"), Words("a", "b"))
    for other in (Words("b", "a"), Words("a", "b", "c")):
        with pytest.raises(InvalidInputError, match=r"tokens differ.* Take a teacher of the same family, or train on"):
            check_same_tokens(Words("a", "b"), other)
