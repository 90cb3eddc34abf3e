
"""Learning from rewards by GRPO and RLOO. Each prompt gets several answers, which are compared with each other.

Validation draws one answer to each validation prompt, always by the same random numbers: what changes between two
validations is the model. Its loss is the negative mean reward, so that early stopping and the best weights, which look
at losses, look at rewards.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from services.trainer.job.data import Splits
from services.trainer.job.methods import KeepsTrainable
from services.trainer.job.recipe import arguments
from services.trainer.job.rewards import Rewards
from services.trainer.job.rl_steps import check_departure, drawn
from shared.prompts import decode_answer, prompt_ids
from shared.recipe import TrainingRecipe


class Rewarded:
    """For TRL's trainers that draw answers: one rendering of prompts, even validations, and an end to departures."""

    max_kl: float
    accelerator: Any
    args: Any
    state: Any
    model: Any
    processing_class: Any
    _metrics: Any

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        return [prompt_ids(self.processing_class, prompt) for prompt in prompts], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        # In the precision of training: the model inside an adapter generates past the wrapper of the adapted one.
        with self.accelerator.autocast():
            return super()._generate_single_turn(*args, **kwargs)  # type: ignore[misc]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        with repeatable(self.args.seed):
            return super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        # With klCoefficient 0 TRL does not ask the base, and there is nothing to tell.
        if metrics.get("kl"):
            kl = _mean(metrics["kl"]) * _mean(metrics["completions/mean_length"])
            logs["eval_kl_per_answer" if "eval_loss" in logs else "kl_per_answer"] = kl
            check_departure(kl, self.max_kl, self.state.global_step)
        if "eval_loss" in logs:
            logs["eval_loss"] = -_mean(metrics["reward"])
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


class Grouped(Rewarded, KeepsTrainable, GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """Learns from each answer's reward, standardised within its group (Shao et al., arXiv 2402.03300)."""


class LeftOut(Rewarded, KeepsTrainable, RLOOTrainer):  # type: ignore[misc]
    """Learns from each answer's reward above the mean of the others in its group (Ahmadian et al., arXiv 2402.14740).
    """


def make_rl_trainer(
    recipe: TrainingRecipe, model: Any, splits: Splits, rewards: Rewards, *, tokenizer: Any, output: Path,
    peft_config: PeftConfig | None, callbacks: Sequence[TrainerCallback],
) -> Any:
    """The trainer of a recipe with rewards. The base that departures are measured from is the model with its adapter
    switched off; for methods that are not PEFT's, the base once more.
    """
    given = arguments(recipe, output)
    kind, configure = (Grouped, GRPOConfig) if recipe.objective == "grpo" else (LeftOut, RLOOConfig)
    config = configure(
        **given | {"num_train_epochs": 1}, shuffle_dataset=False, disable_dropout=True, num_generations_eval=1,
        num_generations=recipe.rl.group_size, max_completion_length=recipe.rl.max_new_tokens,
        temperature=recipe.rl.temperature, beta=recipe.rl.kl_coefficient, epsilon=recipe.rl.clip,
        generation_kwargs={"use_cache": True},
    )
    prompts = config.generation_batch_size // recipe.rl.group_size
    trainer = kind(
        model=model, args=config, train_dataset=splits.train.select(drawn(len(splits.train), prompts, recipe)),
        eval_dataset=splits.validation, processing_class=tokenizer, peft_config=peft_config,
        callbacks=list(callbacks), reward_funcs=reward_function(rewards, tokenizer),
    )
    trainer.max_kl = recipe.rl.max_kl
    rewards.to(trainer.args.device)
    return trainer


def reward_function(rewards: Rewards, tokenizer: Any) -> Any:
    """`rewards` as TRL calls it. Answers are decoded as the evaluation does, without the prompt and the end token."""

    def reward(
        prompts: list[Any], completion_ids: list[list[int]], reference: list[str], log_metric: Any, **_: Any
    ) -> list[float]:
        answers = [decode_answer(tokenizer, ids) for ids in completion_ids]
        parts = rewards.parts(prompts, answers, reference)
        for name, values in parts.items():
            log_metric(f"reward_{name}", _mean(values))
        return [sum(values) for values in zip(*parts.values(), strict=True)]

    return reward


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Within the block random numbers are those of `seed`; after it they go on as if nothing had been."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
