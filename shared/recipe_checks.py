"""What a recipe can get wrong though each of its keys is right: found when it is applied, with the remedy.

These are no validators of the model, for the reason that `shared.policy_checks` gives: what is stored must stay
readable.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.auto_checks import auto_problems
from shared.forgetting_checks import forgetting_problems
from shared.kernel_checks import kernel_problems
from shared.objective_checks import objective_problems
from shared.parallel_checks import parallel_problems
from shared.preference_checks import reward_model_problems
from shared.recipe import FROZEN_BASE, LOW_RANK, VIRTUAL_TOKENS, Method, ModelServer, Objective, TrainingRecipe
from shared.recipe_parts import LoraRecipe
from shared.rl_checks import rl_problems

MERGEABLE: frozenset[Method] = LOW_RANK | {"ia3"}
PREFERENCES: frozenset[Objective] = frozenset({"dpo", "kto"})


@dataclass(frozen=True)
class _Key:
    """A key of the recipe that only some methods read."""

    key: str
    attribute: str
    default: object
    methods: frozenset[Method]


_KEYS = (
    _Key("lora", "lora", LoraRecipe(), LOW_RANK),
    _Key("doubleQuantization", "double_quantization", True, frozenset({"qlora"})),
    _Key("virtualTokens", "virtual_tokens", 20, frozenset({"prefix", "prompt"})),
    _Key("baseWeights", "base_weights", "auto", FROZEN_BASE),
    _Key("bottleneck", "bottleneck", 64, frozenset({"adapter"})),
)


def recipe_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    for item in _KEYS:
        if recipe.method not in item.methods and getattr(recipe, item.attribute) != item.default:
            yield item.key, (f"has no effect with method: {recipe.method}; remove it, or train with "
                             f"{' or '.join(sorted(item.methods))}")
    yield from _objective(recipe)
    yield from objective_problems(recipe)
    yield from forgetting_problems(recipe)
    if recipe.packing in ("bfd", "padding_free") and not recipe.packs:
        who = recipe.method if recipe.method in VIRTUAL_TOKENS else recipe.objective
        yield "packing", f"rows of {who} cannot share a sequence; write auto, grouped or off"
    yield from kernel_problems(recipe)
    yield from parallel_problems(recipe)
    yield from reward_model_problems(recipe)
    yield from rl_problems(recipe)
    if recipe.gradient_checkpointing is True and recipe.method == "prefix":
        yield "gradientCheckpointing", "prefix keeps keys and values, which checkpointing cannot; write auto or false"
    yield from auto_problems(recipe)
    if recipe.lora.target_modules == []:
        yield "lora.targetModules", "names no layer; write all-linear, or the names of layers"
    if recipe.merge and recipe.method not in MERGEABLE:
        whole = "is a whole model already" if recipe.method == "full" else (
            "adds tokens or layers that the base's own weights cannot hold"
        )
        yield "merge", f"{recipe.method} {whole}; remove it, or train with {', '.join(sorted(MERGEABLE))}"


def _objective(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    if recipe.objective not in PREFERENCES and recipe.beta != 0.1:
        yield "beta", f"has no effect with objective: {recipe.objective}; remove it, or train with dpo or kto"
    if recipe.objective in PREFERENCES and recipe.method in ("prefix", "prompt"):
        yield "objective", (f"{recipe.objective} compares answers token by token, which virtual tokens shift; train "
                            "with another method than prefix and prompt")
    if recipe.objective == "kto" and recipe.batch_size == 1:
        yield "batchSize", "kto compares the rows of a batch with each other; give at least 2"


def serving_problems(recipe: TrainingRecipe, server: ModelServer) -> Iterator[tuple[str, str]]:
    """Why this model server could not serve what comes out, with the path of the key and the remedy.

    A whole model is none: it is served as a base of its own, and not by a rollout on this one.
    """
    if recipe.adapts and server not in recipe.servers:
        remedies = ["set merge: true"] if recipe.method in MERGEABLE else []
        remedies += ["train with lora or qlora", "serve with the small engine (TUNELOOP_MODEL_SERVER=small)"]
        yield "method", f"vLLM cannot serve {recipe.method}, only lora and qlora; {', or '.join(remedies)}"


def gate_problems(recipe: TrainingRecipe, gates: Sequence[tuple[str, str | None]]) -> Iterator[tuple[str, str]]:
    """Gates that nothing could pass, because what they ask for is not measured of such rows.

    Args:
        gates: metric and task of each of the pipeline's gates, in their order.
    """
    for place, (metric, task) in enumerate(gates):
        if task is not None and recipe.multi_task is None:
            yield f"gates.{place}.task", "rows have no tasks; remove it, or give training.multiTask"
        if recipe.objective == "pretrain" and metric == "exact_match":
            yield f"gates.{place}.metric", (
                "texts are no answers that could match; with objective: pretrain write "
                "gates: [{metric: bits_per_byte, versus: base, maxDelta: 0}]"
            )
