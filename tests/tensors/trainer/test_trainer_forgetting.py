"""Penalties, importances, layers that join by and by: against cases that were computed by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from services.trainer.job.anchor import Anchor
from services.trainer.job.fisher import diagonal_fisher, relative
from services.trainer.job.restraint import Restrained
from services.trainer.job.unfreezing import Schedule, frozen, stages
from shared.errors import InvalidInputError
from shared.forgetting import GradualUnfreezing
from shared.prompts import Example


class Weights(torch.nn.Module):
    """Two weights that train and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        self.base = torch.nn.Parameter(torch.tensor([5.0]), requires_grad=False)


def moved(model: Weights, gradient: float = 0.0) -> None:
    """From (1, -2) to (3, 1): 2 and 3 away from the start."""
    model.theta.data = torch.tensor([3.0, 1.0])
    model.theta.grad = torch.full((2,), gradient)


def test_the_penalty_of_ewc_is_half_of_lambda_times_the_weighted_squares() -> None:
    model = Weights()
    anchor = Anchor(model, ewc=10.0, importance={"theta": torch.tensor([0.5, 0.1])})
    moved(model, gradient=1.0)
    # 10 / 2 * (0.5 * 2^2 + 0.1 * 3^2), and its derivatives 10 * 0.5 * 2 and 10 * 0.1 * 3 beside the loss's own.
    assert anchor.pull(model).item() == pytest.approx(14.5)
    assert model.theta.grad is not None
    assert model.theta.grad.tolist() == pytest.approx([11.0, 4.0])


def test_the_penalty_of_l2_weighs_all_alike_and_adds_to_that_of_ewc() -> None:
    model = Weights()
    plain, both = Anchor(model, l2=0.2), Anchor(model, l2=0.2, ewc=1.0, importance={"theta": torch.tensor([0.5, 0.1])})
    moved(model)
    assert plain.pull(model).item() == pytest.approx(0.1 * 13)
    moved(model)
    assert both.pull(model).item() == pytest.approx(0.1 * 13 + 0.5 * 2.9)


def test_a_weight_at_its_start_or_without_a_gradient_is_not_pulled() -> None:
    model = Weights()
    anchor = Anchor(model, l2=1.0)
    model.theta.grad = torch.zeros(2)
    assert anchor.pull(model).item() == 0
    model.theta.data += 1
    model.theta.grad = None
    assert anchor.pull(model).item() == 0
    assert model.theta.grad is None


class Bigrams(torch.nn.Module):
    """The logits after a token are its row of a matrix, so that gradients are softmax minus the one that came.

    Dropout and a batch norm show whether modes are kept; it may put virtual tokens before each row's own.
    """

    def __init__(self, virtual: int = 0) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(3, 3))
        self.dropout = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.BatchNorm1d(3).eval()
        self.virtual = virtual

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, use_cache: bool) -> Any:
        assert not use_cache
        assert attention_mask.all()
        assert not self.training, "importances are computed without dropout"
        logits = self.dropout(self.table)[input_ids]
        return SimpleNamespace(logits=torch.nn.functional.pad(logits, (0, 0, self.virtual, 0), value=9.0))


# After token 0 the answers 1 and 2: gradients of ln p are (-1/3, 2/3, -1/3) and (-1/3, -1/3, 2/3).
OPPOSED = [Example(input_ids=[0, 1], prompt_length=1), Example(input_ids=[0, 2], prompt_length=1)]


@pytest.mark.parametrize("virtual", [0, 2])
def test_importances_are_means_of_squares_over_rows(virtual: int) -> None:
    found = diagonal_fisher(Bigrams(virtual), OPPOSED)["table"]
    assert found[0].tolist() == pytest.approx([1 / 9, 5 / 18, 5 / 18])
    assert found[1:].abs().sum() == 0


def test_importances_are_not_the_squares_of_the_batch_s_mean_gradient() -> None:
    model = Bigrams().eval()
    logits = model(torch.tensor([[0], [0]]), torch.ones(2, 1), use_cache=False).logits[:, 0]
    torch.autograd.backward(torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2])))
    assert model.table.grad is not None
    of_the_batch = model.table.grad[0] ** 2  # (1/3, -1/6, -1/6) squared: the two answers cancel
    assert of_the_batch.tolist() == pytest.approx([1 / 9, 1 / 36, 1 / 36])
    per_row = diagonal_fisher(model, OPPOSED)["table"][0]
    assert per_row[1] / of_the_batch[1] == pytest.approx(10)


def test_the_likelihood_is_of_the_whole_answer_and_of_nothing_before_it() -> None:
    # The prompt is 0 1, the answer 2 0: gradients at rows 1 and 2 of the table, none at row 0.
    found = diagonal_fisher(Bigrams(), [Example(input_ids=[0, 1, 2, 0], prompt_length=2)])["table"]
    assert found.flatten().tolist() == pytest.approx([0, 0, 0, 1 / 9, 1 / 9, 4 / 9, 4 / 9, 1 / 9, 1 / 9])


def test_modes_and_gradients_are_as_they_were() -> None:
    model = Bigrams().train()
    model.frozen.eval()
    before = torch.ones(3, 3)
    model.table.grad = before
    diagonal_fisher(model, OPPOSED)
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    assert model.table.grad is before
    assert before.eq(1).all()


def test_processes_share_the_rows() -> None:
    shares = iter([slice(0, None, 2), slice(1, None, 2)])
    first, second = (diagonal_fisher(Bigrams(), OPPOSED, share=share)["table"] for share in shares)
    assert torch.allclose(first + second, diagonal_fisher(Bigrams(), OPPOSED)["table"])


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_importances_are_relative_to_their_mean_over_all_weights(scale: float) -> None:
    found = relative({"a": torch.tensor([1.0, 2.0]) * scale, "b": torch.tensor([[9.0], [0.0]]) * scale})
    assert found["a"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found["b"].flatten().tolist() == pytest.approx([3, 0])


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_importances_that_tell_no_weight_from_another_are_refused(value: float) -> None:
    with pytest.raises(InvalidInputError, match="or hold weights by l2"):
        relative({"a": torch.full((2,), value)})


NAMES = ["model.embed_tokens.weight", *(f"model.layers.{layer}.mlp.weight" for layer in range(12)), "model.norm.weight"]


def test_layers_join_from_the_top_the_head_first_and_embeddings_last() -> None:
    names = [name for name in NAMES if not any(f".{layer}." in name for layer in range(9))]
    assert stages(names, 1) == [
        ["model.layers.11.mlp.weight", "model.norm.weight"], ["model.layers.10.mlp.weight"],
        ["model.layers.9.mlp.weight"], ["model.embed_tokens.weight"],
    ]
    assert stages(names, 2) == [
        ["model.layers.10.mlp.weight", "model.layers.11.mlp.weight", "model.norm.weight"],
        ["model.layers.9.mlp.weight"], ["model.embed_tokens.weight"],
    ]


@pytest.mark.parametrize("form", [
    "base_model.model.model.layers.{}.self_attn.q_proj.lora_A.default.weight", "transformer.h.{}.attn.weight",
    "bottleneck.model/layers/{}/mlp/down_proj.up.weight",
])
def test_layers_are_known_by_the_names_that_methods_and_models_give_them(form: str) -> None:
    assert stages([form.format(0), form.format(1)], 1) == [[form.format(1)], [form.format(0)]]


class Tower(torch.nn.Module):
    """An embedding and three layers, of one weight each."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Parameter(torch.ones(1))
        self.layers = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False) for _ in range(3)])

    def forward(self) -> torch.Tensor:
        value: torch.Tensor = self.embed
        for layer in self.layers:
            value = layer(value)
        return value.sum()


def test_what_waits_depends_on_the_step_alone() -> None:
    schedule = Schedule(tower := Tower(), GradualUnfreezing(steps_per_stage=10))
    assert [len(schedule.waiting(step)) for step in (0, 9, 10, 20, 29, 30, 500)] == [3, 3, 2, 1, 1, 0, 0]
    assert schedule.waiting(20)[0] is tower.embed
    assert [schedule.trained_share(steps) for steps in (10, 11, 31)] == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("skip", [True, False])
def test_what_waits_gets_no_gradient(skip: bool) -> None:
    tower = Tower()
    waiting = Schedule(tower, GradualUnfreezing(steps_per_stage=1)).waiting(0)
    with frozen(waiting, skip_backward=skip):
        torch.autograd.backward(tower())
    assert [value.grad is None for value in tower.parameters()] == [True, True, True, False]
    assert all(value.requires_grad for value in tower.parameters())


class Steps(Restrained):
    """A trainer's steps, with two batches to each."""

    def __init__(self, model: Tower) -> None:
        self.model = model
        self.args = SimpleNamespace(world_size=1)
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = SimpleNamespace(sync_gradients=False)
        self.logged: dict[str, float] = {}


class Backward:
    """What transformers does beneath."""

    def training_step(self) -> torch.Tensor:
        loss = self.model()  # type: ignore[attr-defined]
        torch.autograd.backward(loss / 2)
        return loss.detach()  # type: ignore[no-any-return]

    def log(self, logs: dict[str, float]) -> None:
        self.logged = logs


class Trainer(Steps, Backward):
    pass


@pytest.fixture
def trainer() -> Trainer:
    return Trainer(Tower())


def test_the_penalty_is_added_once_a_step_and_not_once_a_batch(trainer: Trainer) -> None:
    top = trainer.model.layers[2].weight
    trainer.anchor = Anchor(trainer.model, l2=3.0)
    top.data += 2
    trainer.training_step()
    assert trainer.penalty is None
    first = float(top.grad)
    trainer.accelerator.sync_gradients = True
    trainer.training_step()
    assert float(top.grad) == pytest.approx(2 * first + 3.0 * 2)
    trainer.log({"loss": 1.0})
    assert trainer.logged == {"loss": 1.0, "penalty": 6.0}
    trainer.log({"eval_loss": 1.0})
    assert "penalty" not in trainer.logged


def test_a_layer_that_waits_is_neither_trained_nor_pulled(trainer: Trainer) -> None:
    trainer.schedule = Schedule(trainer.model, GradualUnfreezing(steps_per_stage=1))
    trainer.anchor, trainer.accelerator.sync_gradients = Anchor(trainer.model, l2=1.0), True
    trainer.training_step()
    assert [value.grad is None for value in trainer.model.parameters()] == [True, True, True, False]
    trainer.state.global_step = 3
    trainer.training_step()
    assert not [value for value in trainer.model.parameters() if value.grad is None]
