"""What a pipeline's recipe means for memory and time, on the hardware that it asks for."""

from dataclasses import dataclass

from shared.estimate.setup import Setup
from shared.recipe import TrainingRecipe


@dataclass(frozen=True)
class Others:
    """Models beside the trained one, whose shapes a recipe does not tell: how many weights they have.

    Attributes:
        teacher: of distillation.
        judge: the reward model of reinforcement learning.
    """

    teacher: int = 0
    judge: int = 0


NO_OTHERS = Others()


def setup_of(
    recipe: TrainingRecipe, *, on_gpu: bool | None = None, others: Others = NO_OTHERS, shards: int = 1
) -> Setup:
    """The setup that the trainer makes of a recipe.

    Where the recipe leaves it open: on a CPU float32 with all activations kept; on GPUs bfloat16, in which frozen
    weights are kept, too, and gradient checkpointing.

    Args:
        on_gpu: whether it runs on one; None: where the recipe asks for one.
        others: models that are in memory beside the trained one.
        shards: devices over which the model is cut.
    """
    gpu = recipe.resources.gpu > 0 if on_gpu is None else on_gpu
    held = "ewc" if recipe.forgetting.ewc else "l2" if recipe.forgetting.l2 else None
    narrow = recipe.base_weights_on(bfloat16_gpu=gpu) == "bfloat16"
    mixed = recipe.precision_on(bfloat16_gpu=gpu) == "bfloat16"
    return Setup(
        method=recipe.method, objective=recipe.objective, teacher_parameters=others.teacher,
        reward_parameters=others.judge, answer_tokens=recipe.rl.max_new_tokens,
        held_by=held, rank=recipe.lora.rank, target_modules=recipe.lora.target_modules,
        dropout=recipe.lora.dropout, precision="bfloat16" if narrow else "mixed" if mixed else "float32",
        gradient_checkpointing=recipe.checkpoints_activations(gpu=gpu), virtual_tokens=recipe.virtual_tokens,
        bottleneck=recipe.bottleneck, double_quantization=recipe.double_quantization,
        optimizer=recipe.optimizer_on(gpu=gpu),
        sequence_length=recipe.max_length, micro_batch=recipe.batch_size,
        gradient_accumulation=recipe.gradient_accumulation, device="cuda" if gpu else "cpu",
        shards=shards,
    )
