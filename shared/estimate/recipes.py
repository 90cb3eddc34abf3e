"""What a pipeline's recipe means for memory and time, on the hardware that it asks for."""

from shared.estimate.setup import Setup
from shared.recipe import TrainingRecipe


def setup_of(recipe: TrainingRecipe) -> Setup:
    """The setup that the trainer makes of a recipe.

    On a CPU it computes in float32 and keeps all activations; on GPUs with bfloat16 and gradient checkpointing
    (services/trainer/job/recipe.py).
    """
    gpu = recipe.resources.gpu > 0
    return Setup(
        method=recipe.method, rank=recipe.lora.rank, target_modules=recipe.lora.target_modules,
        dropout=recipe.lora.dropout, precision="mixed" if gpu else "float32",
        gradient_checkpointing=gpu and recipe.method != "prefix", virtual_tokens=recipe.virtual_tokens,
        bottleneck=recipe.bottleneck, double_quantization=recipe.double_quantization,
        optimizer=recipe.optimizer_on(gpu=gpu),
        sequence_length=recipe.max_length, micro_batch=recipe.batch_size,
        gradient_accumulation=recipe.gradient_accumulation, device="cuda" if gpu else "cpu",
    )
