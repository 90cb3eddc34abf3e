"""What is measured of a finished model on the validation rows, beside the loss."""

from typing import Any

from shared.recipe import RL, TrainingRecipe
from shared.reward_models import padding_of, pairwise_accuracy, scores


def measure(recipe: TrainingRecipe, trainer: Any, tokenizer: Any) -> dict[str, float]:
    """The objective's own metrics of the weights that the trainer has now."""
    if recipe.objective in RL:
        return _rewards(trainer)
    if recipe.objective != "reward":
        return {}
    trainer.model.eval()
    better, worse = (
        scores(trainer.model, trainer.eval_dataset[name], padding=padding_of(tokenizer), batch_size=recipe.batch_size)
        for name in ("chosen_ids", "rejected_ids")
    )
    return {"validation_pairwise_accuracy": pairwise_accuracy(better, worse)}


def _rewards(trainer: Any) -> dict[str, float]:
    """Mean reward and departure from the base, in nats of an answer, on the validation prompts."""
    if trainer.args.world_size == 1:
        trainer.evaluate()
    # Several processes validate together, and this one is the only one left: what they found last.
    history = reversed(trainer.state.log_history)
    last: dict[str, float] = next((entry for entry in history if "eval_reward" in entry), {})
    names = {"eval_reward": "validation_reward", "eval_kl_per_answer": "validation_kl"}
    return {name: float(last[key]) for key, name in names.items() if key in last}
