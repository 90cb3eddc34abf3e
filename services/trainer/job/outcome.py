"""What is measured of a finished model on the validation rows, beside the loss."""

from typing import Any

from shared.recipe import TrainingRecipe
from shared.reward_models import padding_of, pairwise_accuracy, scores


def measure(recipe: TrainingRecipe, trainer: Any, tokenizer: Any) -> dict[str, float]:
    """The objective's own metrics of the weights that the trainer has now."""
    if recipe.objective != "reward":
        return {}
    trainer.model.eval()
    better, worse = (
        scores(trainer.model, trainer.eval_dataset[name], padding=padding_of(tokenizer), batch_size=recipe.batch_size)
        for name in ("chosen_ids", "rejected_ids")
    )
    return {"validation_pairwise_accuracy": pairwise_accuracy(better, worse)}
