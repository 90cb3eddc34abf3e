"""What a recipe for reinforcement learning can get wrong: found when it is applied, with the remedy."""

import re
from collections.abc import Iterator, Sequence

from shared.forgetting import MODEL_VERSION
from shared.recipe import RL, VIRTUAL_TOKENS, TrainingRecipe
from shared.rl import RewardRecipe, RewardWeights, RlRecipe

_VERSION = re.compile(MODEL_VERSION)


def rl_problems(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    """Each problem with the path of its key in the recipe."""
    if recipe.objective not in RL:
        who = " or ".join(sorted(RL))
        if recipe.reward is not None:
            yield "reward", f"has no effect with objective: {recipe.objective}; remove it, or train with {who}"
        if recipe.rl != RlRecipe():
            yield "rl", f"has no effect with objective: {recipe.objective}; remove it, or train with {who}"
        return
    if recipe.reward is None or not recipe.reward.parts:
        yield "reward", ("nothing is rewarded, so nothing could be learned; name a reward model, reward: {model: RUN}, "
                         "or a check, such as reward: {exactMatch: true}")
    else:
        yield from _reward(recipe.reward)
    if recipe.method in VIRTUAL_TOKENS:
        yield "method", (f"{recipe.objective} needs the log-probabilities of answers token by token, which virtual "
                         "tokens shift; train with another method than prefix and prompt")
    if recipe.lora.dropout:
        yield "lora.dropout", ("answers are drawn without dropout, and must be learned by the same probabilities; "
                               "remove it")
    if "maxLength" not in recipe.auto and recipe.rl.max_new_tokens >= recipe.max_length:
        yield "rl.maxNewTokens", (f"{recipe.rl.max_new_tokens} leave no place for a prompt within training.maxLength, "
                                  f"which is {recipe.max_length}; raise that, or lower this")
    yield from _proximal(recipe) if recipe.objective == "ppo" else _groups(recipe)


# Of a step whose size the trainer chooses.
_FEWEST_ANSWERS = 16
_PPO = ("passes", "gamma", "gae_lambda", "value_coefficient", "value_clip", "kl_target")


def _proximal(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    if recipe.rl.group_size != RlRecipe().group_size:
        yield "rl.groupSize", ("has no effect with objective: ppo, whose value head takes the group's place; remove "
                               "it, or train with grpo or rloo")
    if recipe.rl.kl_target is not None and recipe.rl.kl_coefficient == 0:
        yield "rl.klTarget", "moves klCoefficient by shares of it, and 0 stays 0; write a klCoefficient to begin with"


def _groups(recipe: TrainingRecipe) -> Iterator[tuple[str, str]]:
    for name in _PPO:
        field = RlRecipe.model_fields[name]
        if getattr(recipe.rl, name) != field.default:
            yield f"rl.{field.alias}", f"has no effect with objective: {recipe.objective}; remove it, or train with ppo"
    drawn, group = recipe.batch_size * recipe.gradient_accumulation, recipe.rl.group_size
    left = [key for key in ("batchSize", "gradientAccumulation") if key in recipe.auto]
    if left:
        yield from _left_open(recipe, left)
    elif drawn % group:
        yield "batchSize", (f"a step draws batchSize * gradientAccumulation = {drawn} answers, which {group} answers "
                            "to each prompt (rl.groupSize) do not divide; write multiples")


def _left_open(recipe: TrainingRecipe, left: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Whatever the trainer chooses must make whole groups: of both it makes 16, 32 or 64 answers a step."""
    group = recipe.rl.group_size
    written = recipe.gradient_accumulation if left == ["batchSize"] else recipe.batch_size
    if (_FEWEST_ANSWERS if len(left) == 2 else written) % group:
        yield left[0], (f"is left to the trainer, and a step's answers must be a multiple of rl.groupSize, {group}; "
                        "write both batchSize and gradientAccumulation, or leave both open with a groupSize of 2, 4, "
                        "8 or 16")


def _reward(reward: RewardRecipe) -> Iterator[tuple[str, str]]:
    if reward.model is not None and "@" in reward.model and not _VERSION.fullmatch(reward.model):
        yield "reward.model", (f"{reward.model} is no model version; write NAME@NUMBER, such as answers-reward@3, a "
                               "run's id, or a digest")
    low, high = reward.min_characters, reward.max_characters
    if low is not None and high is not None and low > high:
        yield "reward.minCharacters", f"{low} is more than maxCharacters, {high}: no answer could have both"
    for name in sorted(set(RewardWeights.model_fields) - set(reward.parts)):
        if getattr(reward.weights, name) != RewardWeights.model_fields[name].default:
            alias = RewardWeights.model_fields[name].alias
            yield f"reward.weights.{alias}", "weighs what is not rewarded; remove it, or name the reward"
