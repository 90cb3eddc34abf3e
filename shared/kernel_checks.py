"""What in a recipe keeps flash attention or narrow weights away, whatever the hardware; part of
`shared.recipe_checks`.
"""

from collections.abc import Iterator

from shared.recipe import TrainingRecipe


def flash_conflicts(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each with the path of its key in the recipe."""
    if recipe.precision == "float32":
        yield "precision", "flash attention does not compute in float32"
    if not recipe.packs:
        yield "attention", (f"rows of {recipe.objective} with {recipe.method} do not share sequences, which is where "
                            "flash attention is faster")
    if recipe.forgetting.ewc is not None:
        yield "forgetting.ewc", "importances are computed in float32, in which there is no flash attention"


def kernel_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    if recipe.attention == "flash_attention_2":
        for key, why in flash_conflicts(recipe):
            yield key, f"{why}; write attention: auto or sdpa"
    if recipe.base_weights == "bfloat16":
        if recipe.precision == "float32":
            yield "baseWeights", "bfloat16 is multiplied in bfloat16; write auto or float32, or precision: auto"
        if recipe.forgetting.ewc is not None:
            yield "baseWeights", ("importances (forgetting.ewc) are squares of gradients, computed in float32; write "
                                  "auto or float32")
