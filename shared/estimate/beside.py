"""What an objective keeps in memory, and computes, beside the model that is trained."""

from shared.estimate.adapters import trainable_parameters
from shared.estimate.setup import Setup
from shared.estimate.shape import ModelShape

_FLOAT = 4
# Passes of frozen models for each token: the reference of DPO, and with KTO the reference and the estimate of the KL
# term, which asks both models about other rows' answers (arXiv 2402.01306, section 4.1).
_FORWARDS = {"dpo": 1, "kto": 3}
# Of what distillation computes in float32 for each word of each token, so many numbers exist at once where the
# divergence ends: both distributions, the teacher's probabilities, and the terms of the sum before and after they are
# multiplied.
_DIVERGENCE = 5


def beside_bytes(shape: ModelShape, setup: Setup) -> int:
    """Other models and copies of weights, from the first step to the last.

    - A reference (DPO, KTO and reinforcement learning) is the model with its adapter switched off; where PEFT has no
      part in the adapter, it is the base once more, as it is kept.
    - A teacher's weights.
    - A reward model's, which the trainer loads in float32 (`shared.reward_models`).
    - ``forgetting.l2`` keeps where the trained weights started, and ``ewc`` the strength of each one's pull, too.
    """
    kept = 2 if setup.precision == "bfloat16" else _FLOAT
    reference = shape.parameters * kept if needs_reference(setup) else 0
    teacher = setup.teacher_parameters * _teacher_width(setup) if setup.objective == "distill" else 0
    judge = setup.reward_parameters * _FLOAT if setup.draws else 0
    return reference + teacher + judge + _anchors(setup) * trainable_parameters(shape, setup) * _FLOAT


def needs_reference(setup: Setup) -> bool:
    """Whether the base is in memory once more."""
    return (setup.draws or setup.objective in ("dpo", "kto")) and setup.method in ("full", "adapter")


def pull_bytes(shape: ModelShape, setup: Setup) -> int:
    """What the pull to the start computes at once: how far the largest weight is away, the pull, and their product."""
    if setup.held_by is None or setup.method != "full":  # an adapter's weights are small
        return 0
    return 3 * _FLOAT * max(shape.embedding_parameters, *(linear.weights for linear in shape.linears))


def divergence_bytes(shape: ModelShape, setup: Setup) -> int:
    """Of distillation: the logits of both models, those of trained tokens once more, and what is made of them.

    All tokens are reckoned as trained, which is the most that they can be.
    """
    logits = 2 * (setup.compute_bytes + _teacher_width(setup))
    return setup.tokens * shape.vocabulary * (logits + _DIVERGENCE * _FLOAT)


def forward_flops(setup: Setup, *, own: float) -> float:
    """Per token: passes of models that learn nothing. `own` are those of a pass of the model that is trained."""
    teacher = 2.0 * setup.teacher_parameters if setup.objective == "distill" else 0.0
    return own * _FORWARDS.get(setup.objective, 0) + teacher


def _anchors(setup: Setup) -> int:
    return {None: 0, "l2": 1, "ewc": 2}[setup.held_by]


def _teacher_width(setup: Setup) -> int:
    """The trainer loads a teacher in bfloat16 on GPUs that have it."""
    return 2 if setup.device == "cuda" and setup.precision != "float32" else _FLOAT
