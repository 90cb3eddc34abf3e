"""What a recipe can get wrong about what it leaves to the trainer; part of `shared.recipe_checks`."""

from collections.abc import Iterator

from shared.recipe import LOW_RANK, TrainingRecipe


def auto_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    for key in recipe.auto:
        part, _, name = key.rpartition(".")
        holder = recipe.lora if part else recipe
        said = next(place for place, field in type(holder).model_fields.items() if field.alias == name)
        if getattr(holder, said) != type(holder).model_fields[said].default:
            yield key, "is in training.auto, too, which would choose another value; remove one of them"
        if part and recipe.method not in LOW_RANK:
            yield key, (f"is left to the trainer, and has no effect with method: {recipe.method}; remove it, or train "
                        f"with {' or '.join(sorted(LOW_RANK))}")
    if "maxLength" in recipe.auto and recipe.objective == "pretrain":
        yield "maxLength", ("auto is as long as the longest row, and texts are cut into windows, of which none is "
                            "lost; write the window's tokens, such as 1024")
