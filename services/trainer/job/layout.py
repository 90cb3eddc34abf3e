"""How the rows of a batch are laid out: what a recipe's `packing` means for a model. Pure."""

from dataclasses import dataclass

from shared.recipe import Packing, TrainingRecipe


@dataclass(frozen=True)
class Layout:
    """How batches are laid out, and why: for the log, and for those who look at the run."""

    packing: Packing
    why: str


def layout_for(recipe: TrainingRecipe, attention: str) -> Layout:
    """What the recipe's `packing` means for a model whose attention is computed by `attention`, as transformers names
    it. Pure.
    """
    if recipe.packing != "auto":
        return Layout(recipe.packing, "the recipe says so")
    if not recipe.packs:
        return Layout("grouped", f"rows of {recipe.objective} with {recipe.method} cannot share a sequence")
    if "flash" in attention:
        return Layout("padding_free", f"{attention} takes rows of any length end to end")
    if attention in ("sdpa", "eager"):
        return Layout("bfd", f"{attention} computes what is masked, too, so sequences are kept short")
    return Layout("grouped", f"it is not known whether {attention} keeps rows of a sequence apart")
