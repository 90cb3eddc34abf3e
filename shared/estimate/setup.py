"""What is trained and how, as far as memory and time depend on it. Also what the API is asked with."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.parallel_checks import SHARDED
from shared.recipe import FROZEN_BASE, LOW_RANK, RL, KnownOptimizer, Method, Objective

Optimizer = KnownOptimizer
Precision = Literal["float32", "mixed", "bfloat16"]
HeldBy = Literal["l2", "ewc"]


def trainers_precision(method: Method, *, gpu: bool, held_by: HeldBy | None = None) -> Precision:
    """In what the trainer works where a recipe leaves it open."""
    if not gpu:
        return "float32"
    return "bfloat16" if method in FROZEN_BASE and held_by != "ewc" else "mixed"


class Setup(BaseModel):
    """A training step on one device.

    Attributes:
        precision: ``float32`` for all; ``mixed`` for float32 weights with bfloat16 arithmetic (autocast);
            ``bfloat16`` where the base's weights are bfloat16 too. Adapters are float32 in every case. By default the
            trainer's own, by method and device.
        loss: ``chunked`` where logits exist for 32,768 words at a time and no more, as TRL computes it; ``full`` for
            objectives that keep all logits.
        padded: whether rows have different lengths, so that attention gets a mask.
        device: whose kernels are reckoned with.
        shards: devices over which FSDP cuts weights, gradients and the optimizer's states.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(default="lora", description="how the weights are adapted")
    objective: Objective = Field(default="sft", description="what is learned; dpo and reward read two answers a row")
    teacher_parameters: int = Field(default=0, ge=0, description="for distill: how many weights the teacher has")
    reward_parameters: int = Field(
        default=0, ge=0, description="for grpo, rloo and ppo: how many weights the reward model has; 0: there is none"
    )
    answer_tokens: int = Field(
        default=64, ge=1, description="for grpo, rloo and ppo: of the longest answer that is drawn, within the row's"
    )
    held_by: HeldBy | None = Field(default=None, description="what holds weights near their start")
    rank: int = Field(default=8, ge=1, le=1024, description="for lora, dora and qlora: of the update")
    target_modules: Literal["all-linear"] | list[str] = Field(
        default="all-linear", description="for lora, dora and qlora: the layers that are adapted, by name"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="for lora, dora and qlora: of the adapter's inputs")
    virtual_tokens: int = Field(default=20, ge=1, description="for prefix and prompt: how many are learned")
    bottleneck: int = Field(default=64, ge=1, description="for adapter: its inner width")
    double_quantization: bool = Field(default=True, description="for qlora: quantise the scales of NF4 too")
    optimizer: Optimizer = Field(default="adamw", description="paged ones move to the host's memory where needed")
    device: Literal["cuda", "cpu"] = Field(default="cuda", description="whose kernels are reckoned with")
    precision: Precision = Field(
        default_factory=lambda given: trainers_precision(
            given["method"], gpu=given["device"] == "cuda", held_by=given["held_by"]
        ),
        description="of weights and arithmetic; absent: the trainer's own for this method on this device",
    )
    gradient_checkpointing: bool = Field(default=True, description="keep the blocks' inputs only, and compute twice")
    sequence_length: int = Field(default=512, ge=1, description="tokens of the longest row of a batch")
    micro_batch: int = Field(default=8, ge=1, description="rows at once on a device")
    gradient_accumulation: int = Field(default=1, ge=1, description="batches per step of the optimizer")
    loss: Literal["chunked", "full"] = Field(default="chunked", description="whether all logits exist at once")
    padded: bool = Field(default=True, description="rows differ in length, and the short ones are padded")
    shards: int = Field(default=1, ge=1, le=1024, description="devices over which FSDP cuts the model; 1: none is cut")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.method == "prefix" and self.gradient_checkpointing:
            raise ValueError("prefix tuning keeps keys and values, which gradient checkpointing cannot: set "
                             "gradient_checkpointing to false")
        if self.shards > 1 and self.method not in SHARDED:
            raise ValueError(f"FSDP cuts models of {' and '.join(sorted(SHARDED))}: set shards to 1, or another method")
        return self

    @property
    def low_rank(self) -> bool:
        return self.method in LOW_RANK

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the matrix products."""
        return 4 if self.precision == "float32" else 2

    @property
    def stream_bytes(self) -> int:
        """Bytes of a number in the residual stream: what embeddings and norms are in."""
        return 2 if self.precision == "bfloat16" and self.method != "qlora" else 4

    @property
    def inner_bytes(self) -> int:
        """Bytes of a number that a linear layer of a block gives; 4-bit layers answer in what they are asked in."""
        return self.stream_bytes if self.method == "qlora" else self.compute_bytes

    @property
    def draws(self) -> bool:
        """Whether answers are drawn from the model that is trained."""
        return self.objective in RL

    @property
    def answer(self) -> int:
        """Tokens of the longest drawn answer; at least one of the row is its prompt."""
        return min(self.answer_tokens, max(1, self.sequence_length - 1))

    @property
    def length(self) -> int:
        """Tokens of the longest row, with the learned ones of prompt tuning."""
        return self.sequence_length + (self.virtual_tokens if self.method == "prompt" else 0)

    @property
    def sequences(self) -> int:
        """Sequences in one pass: better and worse answers are read in the same."""
        return self.micro_batch * (2 if self.objective in ("dpo", "reward") else 1)

    @property
    def tokens(self) -> int:
        """Tokens in one pass, padding included."""
        return self.sequences * self.length
