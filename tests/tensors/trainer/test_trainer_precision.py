"""A model with narrow weights is asked in float32, and is as it was afterwards."""

from types import MethodType
from typing import Any

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32

from services.trainer.job.precision import in_float32, train_in_float32


class Model(torch.nn.Module):
    """Two layers that share their weights, and one whose are wide."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.to(torch.bfloat16)
        self.adapter = torch.nn.Linear(4, 4)
        self.requires_grad_(False)

    device = torch.device("cpu")

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.second(self.first(given)) + self.adapter(given)
        return hidden


def asked_in_float32(model: Model, given: torch.Tensor) -> torch.Tensor:
    wide = Model()
    wide.load_state_dict(model.state_dict())
    expected: torch.Tensor = wide.float()(given)
    return expected


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model()


GIVEN = torch.linspace(-1, 1, 8).reshape(2, 4)


def test_products_are_those_of_wide_weights_and_no_weight_changes(model: Model) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with in_float32(model):
        found = model(GIVEN)
    assert torch.equal(found, asked_in_float32(model, GIVEN))
    assert model.first.weight is model.second.weight
    assert all(torch.equal(value, before[name]) and value.dtype == before[name].dtype
               for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError, match="dtype"):
        model(GIVEN)


def test_trained_weights_are_wide_before_they_are_at_work(model: Model) -> None:
    model.first.bias.requires_grad_(True)
    with in_float32(model):
        assert (model.first.bias.dtype, model.first.weight.dtype) == (torch.float32, torch.bfloat16)
    assert model.first.bias.dtype == torch.bfloat16


def test_weights_are_narrow_again_after_a_fault(model: Model) -> None:
    with in_float32(model), pytest.raises(RuntimeError, match="shapes"):
        model(GIVEN[:, :3])
    assert {value.dtype for value in model.first.parameters()} == {torch.bfloat16}


def test_the_trainers_autocast_is_off_and_comes_back(model: Model) -> None:
    wrap(model)
    wrap(model)  # a range test trains, too
    seen: list[torch.dtype] = []
    model.adapter.register_forward_hook(lambda _module, _given, output: seen.append(output.dtype))
    model(GIVEN)
    with in_float32(model):
        assert torch.equal(model(GIVEN), asked_in_float32(model, GIVEN))
    model(GIVEN)
    assert seen == [torch.bfloat16, torch.float32, torch.bfloat16]


def wrap(model: Any) -> None:
    """As `Accelerator.prepare_model` does, of which a process can have one precision only."""
    inside: Any = torch.autocast("cpu", torch.bfloat16)(model.forward.__func__)
    model.forward = MethodType(inside, model)
    model.forward = MethodType(convert_outputs_to_fp32(model.forward.__func__), model)


def test_what_another_put_in_the_place_of_the_forward_pass_stays(model: Model) -> None:
    """As PEFT does with virtual tokens that are switched off."""
    model.forward = lambda given: given  # type: ignore[method-assign]
    with in_float32(model):
        assert torch.equal(model(GIVEN), GIVEN)


def test_what_is_trained_is_wide(model: Model) -> None:
    model.first.bias.requires_grad_(True)
    train_in_float32(model)
    assert (model.first.bias.dtype, model.first.weight.dtype) == (torch.float32, torch.bfloat16)
