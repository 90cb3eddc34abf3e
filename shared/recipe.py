"""How a model is trained: the `training` of a pipeline. `shared.recipe_checks` says what fits together."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from shared.forgetting import Forgetting, StartFrom
from shared.limits import Limits
from shared.range_test import RangeTest
from shared.recipe_auto import AutoField, by_name, with_chosen
from shared.recipe_parts import Distillation, EarlyStopping, LoraRecipe, MultiTask
from shared.resources import TrainingResources
from shared.rl import RewardRecipe, RlRecipe
from shared.spec_part import SpecPart

Method = Literal["lora", "dora", "qlora", "ia3", "prefix", "prompt", "adapter", "full"]
Objective = Literal["sft", "dpo", "kto", "pretrain", "reward", "grpo", "rloo", "distill", "ppo"]
Packing = Literal["off", "bfd", "padding_free", "grouped"]
KnownOptimizer = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "sgd"]
Optimizer = Literal["auto", "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "sgd"]

Precision = Literal["float32", "bfloat16"]
Distributed = Literal["auto", "ddp", "fsdp"]
Attention = Literal["auto", "flash_attention_2", "sdpa", "eager"]

ModelServer = Literal["vllm", "small"]
ArtifactKind = Literal["adapters", "models", "reward-models"]

SERVED_BY_VLLM: frozenset[Method] = frozenset({"lora", "qlora"})
SUPERVISED: frozenset[Objective] = frozenset({"sft", "pretrain"})
RL: frozenset[Objective] = frozenset({"grpo", "rloo", "ppo"})
LOW_RANK: frozenset[Method] = frozenset({"lora", "dora", "qlora"})
# Those that train none of the base's own weights, and leave them as they are; qlora holds them in 4 bits.
FROZEN_BASE: frozenset[Method] = frozenset({"lora", "dora", "ia3", "prefix", "prompt", "adapter"})
# Virtual tokens stand before a whole sequence, and could not stand before each of several rows in it.
VIRTUAL_TOKENS: frozenset[Method] = frozenset({"prefix", "prompt"})


class TrainingRecipe(SpecPart):
    """How the model is trained. docs/training.md says which method to take, and who can serve what comes out."""

    method: Method = Field(
        default="lora",
        description="how the weights are adapted; vLLM serves lora and qlora, the small engine all but full. lora, "
        "as every server serves it, many on one base, and it forgets less than full (arXiv 2405.09673)",
    )
    objective: Objective = Field(
        default="sft",
        description="what is learned: sft answers, dpo the better of two answers, kto answers found good or bad, "
        "pretrain texts, distill what a teacher would answer, reward to score answers as people compared them, grpo, "
        "rloo and ppo what answers are rewarded for. sft, as rows with one good answer are what most have",
    )
    beta: float = Field(
        default=0.1, gt=0,
        description="for dpo and kto: how much a departure from the reference model costs; 0.1 is usual with both",
    )
    multi_task: MultiTask | None = Field(
        default=None, description="absent: rows are of one task; else each has its `task`, and shares are balanced"
    )
    reward: RewardRecipe | None = Field(
        default=None, description="for grpo, rloo and ppo: what answers are rewarded for"
    )
    rl: RlRecipe = Field(
        default_factory=RlRecipe, description="for grpo, rloo and ppo: how answers are drawn and learned from"
    )
    distillation: Distillation | None = Field(default=None, description="for distill, which needs it")
    lora: LoraRecipe = Field(default_factory=LoraRecipe, description="for lora, dora and qlora: the update's shape")
    double_quantization: bool = Field(
        default=True,
        description="for qlora: quantise the scales of NF4 too, which saves 0.4 bits a weight and loses nothing "
        "measurable (arXiv 2305.14314)",
    )
    virtual_tokens: int = Field(
        default=20, ge=1, le=1024,
        description="for prefix and prompt: how many are learned; beyond 20 little was gained (arXiv 2104.08691)",
    )
    bottleneck: int = Field(
        default=64, ge=1, le=8192,
        description="for adapter: its inner width; the middle one of the sizes in arXiv 1902.00751, 8 to 256",
    )
    start_from: StartFrom | None = Field(
        default=None,
        description="an adapter to go on from: production, a model version, or a digest; absent: a new one. While "
        "nothing is in production, a new one too",
    )
    forgetting: Forgetting = Field(
        default_factory=Forgetting, description="what keeps the model from forgetting an earlier task"
    )
    merge: bool = Field(
        default=False,
        description="for lora, dora, qlora and ia3: store the whole model with the update in its weights; off, as an "
        "adapter is small, and served beside others",
    )
    optimizer: Optimizer = Field(
        default="auto",
        description="auto: adamw, and for qlora on a GPU paged_adamw_8bit, which may spill to the host's memory. "
        "adamw's state of 8 bytes a trained weight is little for adapters",
    )
    auto: list[AutoField] = Field(
        default_factory=list,
        description="fields that the trainer chooses from the model, the data and the hardware when a run begins; "
        "`learningRate: auto` puts that field here, and `lora: {rank: auto}` its alpha, too. None, so that a spec says "
        "what it trains with",
    )
    precision: Literal["auto"] | Precision = Field(
        default="auto",
        description="of the matrix products; what is trained stays float32. auto: bfloat16 on GPUs that have it and "
        "over `baseWeights: bfloat16`; float32 on CPUs, so that every machine makes the same adapter, and bfloat16 is "
        "slow on most",
    )
    base_weights: Literal["auto"] | Precision = Field(
        default="auto",
        description="how a base is kept of which no weight is trained, for all methods but full and qlora; merge and "
        "servers take the stored one. auto: bfloat16 on GPUs with that precision, as most are published in it and "
        "products round them anyway, for half the memory; float32 elsewhere and with ewc",
    )
    attention: Attention = Field(
        default="auto",
        description="how it is computed, as transformers names it; auto: flash_attention_2 where rows share sequences "
        "and the GPU, its package and bfloat16 are there, else sdpa, which runs everywhere",
    )
    gradient_checkpointing: Literal["auto"] | bool = Field(
        default="auto",
        description="keep the inputs of blocks only and compute the rest twice, for less memory and a third more time; "
        "auto: on GPUs, whose memory is what runs out, and not on CPUs",
    )
    epochs: float = Field(
        default=1.0, gt=0,
        description="passes over the training rows; in one, no row can be learned by heart. auto: three below "
        "5,000 rows, two below 50,000 (arXiv 2305.16264)",
    )
    batch_size: int = Field(
        default=16, ge=1,
        description="rows at once on each device; 16 leave enough steps where rows are few. auto: as many as fit, "
        "of those of a step",
    )
    gradient_accumulation: int = Field(
        default=1, ge=1,
        description="batches per step of the optimizer; more are for batches that do not fit at once. auto: for "
        "16 rows a step, 32 from 5,000 rows on, 64 from 50,000",
    )
    packing: Literal["auto"] | Packing = Field(
        default="auto",
        description="how a batch's rows are laid out: bfd puts several in a sequence, padding_free all in one, grouped "
        "pads batches of rows of like length, off pads any; auto: what is fastest and keeps rows apart",
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, lt=1,
        description="the highest one, after the warm-up; what LoRA on a model of 135 million weights bore. Larger "
        "models want less: write auto",
    )
    range_test: RangeTest | None = Field(
        default=None,
        description="with `learningRate: auto`: try rates on the run's own rows first, and take the one at which the "
        "loss falls fastest; absent: take the advised one, which costs nothing",
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="cosine",
        description="how the learning rate falls after the warm-up; cosine and linear end at 0, so that the last "
        "steps only settle",
    )
    warmup_steps: int = Field(
        default=0, ge=0,
        description="steps in which the learning rate rises from 0; none, as a short run has none to lose. auto: 3 % "
        "from 100 steps on",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0,
        description="longer gradients are cut to this norm (arXiv 1211.5063), so that no batch throws the weights "
        "far; 1 is usual",
    )
    max_length: int = Field(
        default=512, ge=8,
        description="tokens; longer rows are cut at the right, and texts into windows of this length, of which none "
        "is lost. 512 hold a question and its answer; activations take memory by it. auto: the longest row, within "
        "the model's context and the memory",
    )
    seed: int = Field(
        default=17,
        description="of the adapter's first weights and the order of rows; any is as good, and a fixed one makes the "
        "same run again",
    )
    checkpoint_every_steps: int = Field(
        default=10, ge=1,
        description="at most this many steps are lost in a crash; an adapter is small, a whole model (full) takes "
        "long to store. auto: a twentieth of the run, at least 10",
    )
    validate_every_steps: int = Field(
        default=10, ge=1,
        description="steps between two validations; as often as checkpoints, so that few are past the best one. "
        "auto: a twentieth of the run, at least 10",
    )
    early_stopping: EarlyStopping | None = Field(
        default=None,
        description="absent: train all epochs, of which one has nothing to stop early",
    )
    on_divergence: Literal["fail", "keep"] = Field(
        default="fail",
        description="fail: a run that diverges has failed, its last good checkpoint stays; keep: it ends with that "
        "one. fail, as a person should see it",
    )
    max_attempts: int = Field(
        default=3, ge=1, le=20,
        description="launches of the job before the run has failed; two may be lost with their machines, and a job "
        "that fails thrice is at fault itself",
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="what a run may take at most; nothing is cut off unless you say so",
    )
    priority: int = Field(
        default=0, ge=-100, le=100,
        description="of its runs in the queue; higher ones go first. 0 leaves room on both sides",
    )
    distributed: Distributed = Field(
        default="auto",
        description="how several GPUs share the model: ddp, a copy on each; fsdp, a shard of it on each, for full "
        "with sft and pretrain; auto: ddp where a copy fits, by the estimator, as it exchanges less, else fsdp",
    )
    resources: TrainingResources = Field(default_factory=TrainingResources, description="what the job asks for")

    @model_validator(mode="before")
    @classmethod
    def _auto_by_name(cls, data: Any) -> Any:
        return by_name(data) if isinstance(data, dict) else data

    def taking(self, chosen: Mapping[str, str]) -> Self:
        """The recipe as a run trained with it that tells what it chose for `auto`."""
        return self.model_validate(with_chosen(self.model_dump(mode="json", by_alias=True), chosen))

    def precision_on(self, *, bfloat16_gpu: bool) -> Precision:
        """The precision that `auto` means there."""
        if self.precision != "auto":
            return self.precision
        narrow_base = self.base_weights == "bfloat16" and self.method in FROZEN_BASE
        return "bfloat16" if bfloat16_gpu or narrow_base else "float32"

    def base_weights_on(self, *, bfloat16_gpu: bool) -> Precision:
        """How the base's weights are kept there; those in 4 bits aside."""
        if self.method not in FROZEN_BASE:
            return "float32"
        if self.base_weights != "auto":
            return self.base_weights
        narrow = bfloat16_gpu and self.precision != "float32" and self.forgetting.ewc is None
        return "bfloat16" if narrow else "float32"

    def checkpoints_activations(self, *, gpu: bool) -> bool:
        """Whether blocks are computed twice there. Prefix tuning keeps keys and values, which checkpointing cannot."""
        wanted = gpu if self.gradient_checkpointing == "auto" else self.gradient_checkpointing
        return wanted and self.method != "prefix"

    def optimizer_on(self, *, gpu: bool) -> KnownOptimizer:
        """The optimizer that `auto` means there."""
        if self.optimizer != "auto":
            return self.optimizer
        return "paged_adamw_8bit" if gpu and self.method == "qlora" else "adamw"

    @property
    def packs(self) -> bool:
        """Whether several rows may share a sequence."""
        return self.objective in SUPERVISED and self.method not in VIRTUAL_TOKENS

    @property
    def servers(self) -> tuple[ModelServer, ...]:
        """Who serves what comes out beside others on its base. A whole model is a base of its own, and a reward model
        writes no answers: nobody."""
        if not self.adapts:
            return ()
        return ("vllm", "small") if self.method in SERVED_BY_VLLM else ("small",)

    @property
    def adapts(self) -> bool:
        """Whether an adapter comes out that is served beside others on its base."""
        return self.kind == "adapters"

    @property
    def kind(self) -> ArtifactKind:
        """What comes out, as artifacts are filed by it."""
        if self.objective == "reward":
            return "reward-models"
        return "models" if self.method == "full" or self.merge else "adapters"
