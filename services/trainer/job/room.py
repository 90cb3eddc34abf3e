"""Whether a training fits into the memory that there is: foreseen before the base is loaded, and without torch.

What does not fit fails at once and for good: another attempt would need as much.
"""

import json
from pathlib import Path

from shared.errors import InvalidInputError
from shared.estimate import NO_OTHERS, EstimateRequest, Hardware, Others, estimate, setup_of, shape_of
from shared.recipe import TrainingRecipe
from shared.telemetry import get_logger

log = get_logger(__name__)

DOUBT = 1.2
"""The estimator was within 20 % of all measured peaks: what is foreseen to need more than this share cannot fit."""
PROCESS_BYTES = 650 * 10**6
"""Python with torch, transformers and TRL, on a CPU beside the model; measured."""


def check_room(
    config: Path, recipe: TrainingRecipe, longest: int, *, gpu: bool, memory: int, others: Others = NO_OTHERS,
    shards: int = 1,
) -> None:
    """Refuse a training that cannot fit.

    Args:
        config: the base model's ``config.json``.
        longest: tokens of the longest row.
        memory: bytes of the device.
        others: models beside the trained one.
        shards: processes over which the model is cut.

    Raises:
        InvalidInputError: with what is needed, and what would make it fit.
    """
    resources = recipe.resources.model_copy(update={"gpu": max(1, recipe.resources.gpu) if gpu else 0})
    asked = recipe.model_copy(update={"max_length": min(recipe.max_length, longest), "resources": resources})
    own = 0 if gpu else PROCESS_BYTES
    room = Hardware(memory_gb=max(1, memory - own) * DOUBT / 10**9)
    try:
        shape = shape_of(json.loads(config.read_text()))
        setup = setup_of(asked, others=others, shards=shards)
        answer = estimate(shape, EstimateRequest(setup=setup, hardware=room))
    except InvalidInputError as error:
        log.info("the memory of this base model cannot be estimated", reason=str(error))
        return
    needed = answer.memory.peak - answer.memory.pageable + own
    if needed > memory * DOUBT:
        changes = [item.change for item in answer.together]
        remedy = f"It fits with {', '.join(changes)}" if changes else "No change of the recipe makes it fit"
        raise InvalidInputError(
            f"out of memory, foreseen before the first step: a batch of {recipe.batch_size} rows of up to "
            f"{asked.max_length} tokens needs about {needed / 10**9:.2g} GB, and there are {memory / 10**9:.2g}. "
            f"{remedy}; or train on a larger machine (training.resources). `tuneloop estimate` shows what takes it"
        )
