"""What drawing answers takes, where a model learns from rewards: the cache of keys and values, and the last logits.

The counts follow `generate` of transformers with a `DynamicCache`, as TRL's trainers and ours call it.
"""

from shared.estimate.setup import Setup
from shared.estimate.shape import ModelShape
from shared.recipe import Method

_FLOAT = 4
# Of a word's numbers for each answer so many exist while the next token is drawn: the model's logits, their float32
# copy, probabilities, and the noise that they are divided by (torch.multinomial).
_TABLES = 4
# Of them so many of the token before are still there when the model reads that token.
_LEFT = 2
# Of a block without gradients: what the model read, what the block reads, what its feed-forward layer is added to, and
# what that reads; inside that the gate, what multiplies it, and their product, while an adapter's answer is added to
# the last operand. DoRA scales both before it adds them.
_STREAM, _INNER = 4, 3
_INNER_ADAPTED: dict[Method, int] = {"lora": 4, "qlora": 4, "dora": 6}


def drawing_bytes(shape: ModelShape, setup: Setup) -> int:
    """Beside weights and states, at the higher of two summits: all prompts are read at once, and the last token is
    drawn.
    """
    answers, prompt = answers_at_once(setup), setup.length - setup.answer
    learned = setup.virtual_tokens if setup.method == "prefix" else 0  # keys and values that no pass gave
    cached, table = setup.length - 1 + learned, answers * shape.vocabulary * _FLOAT  # nobody reads the last token
    per_token = shape.layers * cache_bytes(shape, setup)
    inner = _INNER_ADAPTED.get(setup.method, _INNER)
    # Sines and cosines are those of all rows, and so is the mask: a byte for each pair of tokens.
    rotation = 2 * shape.head_dim * setup.stream_bytes + prompt
    block = _STREAM * shape.hidden * setup.stream_bytes + inner * shape.intermediate * setup.inner_bytes + rotation
    # The cache of a layer grows by a copy: for a moment its old keys are there, too.
    joined = answers * cached * shape.kv_width * setup.stream_bytes
    return _weight_copies(shape, setup) + max(
        answers * ((prompt + learned) * per_token + prompt * block),
        answers * cached * per_token + max(joined + _LEFT * table, _TABLES * table),
    )


def answers_at_once(setup: Setup) -> int:
    """TRL draws all answers of a step of the optimizer together, ppo those of one batch."""
    return setup.micro_batch * (1 if setup.objective == "ppo" else setup.gradient_accumulation)


def cache_bytes(shape: ModelShape, setup: Setup) -> int:
    """Keys and values of a token in one layer. Rotation widens keys to the residual stream's numbers; values stay as
    their layer gave them. Of models whose layers look back over a window only, some keep fewer tokens.
    """
    return shape.kv_width * (setup.stream_bytes + setup.inner_bytes)


def _weight_copies(shape: ModelShape, setup: Setup) -> int:
    """Autocast keeps its bfloat16 copies of weights that are trained, and has one of a frozen weight at a time."""
    if setup.precision != "mixed":
        return 0
    if setup.method == "full":
        return 2 * shape.active_weights
    return 2 * max(shape.embedding_parameters, *(linear.weights for linear in shape.linears))
