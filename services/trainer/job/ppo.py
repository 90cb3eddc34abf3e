# ruff: noqa: ARG002 - the signatures are the trainer's
"""Proximal policy optimisation, which TRL no longer has: a policy, a value head on its last hidden state, and rounds.

In a round each of a step's prompts gets an answer; the optimizer then takes `passes` steps on these same answers. A
checkpoint within a round holds its answers, so that a resumed run ends with the same bytes.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, GenerationConfig, Trainer, TrainerCallback, TrainingArguments
from trl.trainer.utils import disable_dropout_in_model, use_adapter

from services.trainer.job.data import Splits
from services.trainer.job.methods import KeepsTrainable
from services.trainer.job.ppo_math import (
    advantages_of,
    answer_mask,
    next_coefficient,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from services.trainer.job.recipe import arguments
from services.trainer.job.rewards import Rewards
from services.trainer.job.rl import repeatable
from services.trainer.job.rl_steps import check_departure, drawn
from services.trainer.job.start import REFERENCE, copy_reference
from shared.errors import InvalidInputError
from shared.prompts import decode_answer, end_token_id
from shared.recipe import TrainingRecipe
from shared.reward_models import padding_of


class Answers(NamedTuple):
    """A batch's answers, and what is learned from them. Prompts are padded on the left, answers on the right.

    Attributes:
        ids: (rows, prompt and answer); `attention` is 1 for what is read.
        mask: (rows, answer), and so all that follows.
    """

    ids: Tensor
    attention: Tensor
    mask: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class Drawn(NamedTuple):
    """Answers before anything is learned from them; `scores` are (rows,)."""

    ids: Tensor
    attention: Tensor
    mask: Tensor
    scores: Tensor
    log_probs: Tensor
    values: Tensor
    reference: Tensor

    @property
    def kl(self) -> float:
        """Mean departure of an answer from the base, in nats."""
        return float(((self.log_probs - self.reference) * self.mask).sum(dim=1).mean())


class Proximal(KeepsTrainable, Trainer):  # type: ignore[misc]  # transformers is not typed
    """Learns from rewards, token by token (Schulman et al., arXiv 1707.06347; Ouyang et al., arXiv 2203.02155)."""

    STATE = "ppo.safetensors"
    control: Any

    def __init__(self, recipe: TrainingRecipe, rewards: Rewards, reference: Any, **given: Any) -> None:
        super().__init__(data_collator=list, **given)
        if self.args.world_size > 1:
            raise InvalidInputError(
                "training.objective: ppo trains on one device; ask for one, or train with rloo or grpo"
            )
        self._recipe, self._rewards, self._reference = recipe, rewards.to(self.args.device), reference
        # Zeros: the first advantages are those of the rewards themselves, and no random number is drawn.
        width = self.model.config.get_text_config().hidden_size
        self.value_head = torch.nn.Linear(width, 1, device=self.args.device)
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)
        self._coefficient = recipe.rl.kl_coefficient
        self._round: list[Answers] = []
        self._place = 0  # of the batch within a step of the optimizer
        self._told: dict[str, list[float]] = {}

    # --- what transformers asks for

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        first = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if first:
            optimizer.add_param_group({"params": list(self.value_head.parameters()), "weight_decay": 0.0})
        return optimizer

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        batches, rl = self.args.gradient_accumulation_steps, self._recipe.rl
        if self._place == 0:
            # The trainer empties the gradients of the model alone.
            self.value_head.zero_grad(set_to_none=True)
            if self.state.global_step % rl.passes == 0:
                self._round = []
        if len(self._round) < batches:
            self._round.append(self._learnable(inputs))
            if len(self._round) == batches and rl.kl_target is not None:
                departed = sum(self._told["kl_per_answer"][-batches:]) / batches
                self._coefficient = next_coefficient(self._coefficient, departed, rl.kl_target)
        batch = self._round[self._place]
        self._place = (self._place + 1) % batches
        log_probs, values = self._read(model, batch.ids, batch.attention, batch.mask.shape[1])
        policy, clipped = policy_loss(log_probs, batch.log_probs, batch.advantages, batch.mask, rl.clip)
        value = value_loss(values, batch.values, batch.returns, batch.mask, rl.value_clip)
        self._tell(policy_loss=float(policy), value_loss=float(value), clipped=float(clipped))
        return policy + rl.value_coefficient * value

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self._told.items()}
            self._told = {}
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        size, rows = self.args.eval_batch_size, self.eval_dataset
        found: list[Drawn] = []
        with repeatable(self.args.seed):
            for start in range(0, len(rows), size):
                self.check_stop()
                found.append(self._draw([rows[i] for i in range(start, min(start + size, len(rows)))]))
        reward = float(torch.cat([batch.scores for batch in found]).mean())
        kl = sum(batch.kl * len(batch.scores) for batch in found) / len(rows)
        metrics = {"eval_loss": -reward, "eval_reward": reward, "eval_kl_per_answer": kl}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        kept = {f"value_head.{name}": value for name, value in self.value_head.state_dict().items()}
        kept["coefficient"] = torch.tensor(self._coefficient, dtype=torch.float64)
        if self.state.global_step % self._recipe.rl.passes:
            kept |= {f"round.{place}.{name}": value for place, batch in enumerate(self._round)
                     for name, value in batch._asdict().items()}
        contiguous = {name: value.detach().cpu().contiguous() for name, value in kept.items()}
        save_file(contiguous, Path(output_dir or self.args.output_dir) / self.STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        kept = load_file(Path(resume_from_checkpoint) / self.STATE, device=str(self.args.device))
        self._coefficient = float(kept["coefficient"])
        self.value_head.load_state_dict({name: kept[f"value_head.{name}"] for name in ("weight", "bias")})
        places = {int(name.split(".")[1]) for name in kept if name.startswith("round.")}
        self._round = [
            Answers(**{name: kept[f"round.{place}.{name}"] for name in Answers._fields}) for place in sorted(places)
        ]

    # --- drawing and learning

    def _learnable(self, rows: Sequence[Any]) -> Answers:
        """Answers to the rows' prompts, with what each of their tokens was worth."""
        rl, found = self._recipe.rl, self._draw(rows)
        check_departure(found.kl, rl.max_kl, self.state.global_step)
        self._tell(reward=float(found.scores.mean()), kl_per_answer=found.kl, kl_coefficient=self._coefficient)
        self.state.num_input_tokens_seen += int(found.attention.sum())
        rewards = token_rewards(found.scores, found.log_probs, found.reference, found.mask, self._coefficient)
        advantages, returns = advantages_of(
            rewards, found.values, found.mask, gamma=rl.gamma, gae_lambda=rl.gae_lambda
        )
        return Answers(found.ids, found.attention, found.mask, found.log_probs, found.values,
                       whiten(advantages, found.mask), returns)

    @torch.no_grad()
    def _draw(self, rows: Sequence[Any]) -> Drawn:
        model, training = self.model, self.model.training
        # Generation keeps keys and values, which training with checkpointed activations may not.
        model.eval()
        try:
            ids, attention, mask = self._generate(rows)
            answers = [decode_answer(self.processing_class, line[kept].tolist())
                       for line, kept in zip(ids[:, -mask.shape[1]:], mask, strict=True)]
            parts = self._rewards.parts([row["prompt"] for row in rows], answers, [row["reference"] for row in rows])
            scores = torch.tensor([sum(values) for values in zip(*parts.values(), strict=True)], device=ids.device)
            log_probs, values = self._read(model, ids, attention, mask.shape[1])
            other = self._reference or model
            with nullcontext() if self._reference is not None else use_adapter(model, _start_of(model)):
                reference, _ = self._read(other, ids, attention, mask.shape[1])
        finally:
            model.train(training)
        return Drawn(ids, attention, mask, scores, log_probs, values, reference)

    def _generate(self, rows: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts with their answers, what of that is read, and which tokens are an answer's."""
        tokenizer, device = self.processing_class, self.args.device
        prompts, padding = [row["prompt_ids"] for row in rows], padding_of(tokenizer)
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[padding] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
        read = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        config = GenerationConfig(
            do_sample=True, temperature=self._recipe.rl.temperature, top_k=0, top_p=1.0, use_cache=True,
            max_new_tokens=self._recipe.rl.max_new_tokens, pad_token_id=padding, eos_token_id=end_token_id(tokenizer),
        )
        # Around the model inside an adapter, too, which generates past the trainer's wrapper of the adapted one.
        with self.accelerator.autocast():
            whole = self.model.generate(input_ids=ids, attention_mask=read, generation_config=config)
        mask = answer_mask(whole[:, width:], end_token_id(tokenizer))
        return whole, torch.cat([read, mask.long()], dim=1), mask

    def _read(self, model: Any, ids: Tensor, attention: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the last `length` tokens, as they are drawn, and the values before each of them."""
        hidden: list[Tensor] = []
        plain = model.get_base_model() if isinstance(model, PeftModel) else model
        hook = plain.get_output_embeddings().register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
        try:
            # In the policy's precision, the reference as well, which nothing wraps.
            with self.accelerator.autocast():
                logits = model(
                    input_ids=ids, attention_mask=attention, use_cache=False, logits_to_keep=length + 1,
                    position_ids=(attention.cumsum(dim=1) - 1).clamp(min=0),
                ).logits[:, :-1]
        finally:
            hook.remove()
        scaled = logits.float() / self._recipe.rl.temperature
        log_probs = scaled.log_softmax(dim=-1).gather(2, ids[:, -length:, None])[..., 0]
        return log_probs, self.value_head(hidden[0][:, :-1].float())[..., 0]

    def _tell(self, **values: float) -> None:
        for name, value in values.items():
            self._told.setdefault(name, []).append(value)


def make_ppo_trainer(
    recipe: TrainingRecipe, model: Any, splits: Splits, rewards: Rewards, *, tokenizer: Any, output: Path,
    peft_config: PeftConfig | None, callbacks: Sequence[TrainerCallback],
) -> Proximal:
    """The trainer of objective: ppo. The base that departures are measured from is the model with its adapter switched
    off, or a copy of the adapter that training starts from; for methods that are not PEFT's, the base once more.
    """
    config = TrainingArguments(**arguments(recipe, output) | {"num_train_epochs": 1}, remove_unused_columns=False)
    reference = None
    if peft_config is not None:
        model = get_peft_model(model, peft_config)
    elif isinstance(model, PeftModel):
        model.add_adapter(REFERENCE, model.peft_config["default"])
        copy_reference(model)
    else:
        reference = AutoModelForCausalLM.from_pretrained(
            model.config._name_or_path, dtype=model.dtype, local_files_only=True, trust_remote_code=False
        ).requires_grad_(False).eval().to(config.device)
    if isinstance(model, PeftModel) and config.gradient_checkpointing:
        model.enable_input_require_grads()
    # The same answer must be as likely when it is learned as it was when it was drawn.
    disable_dropout_in_model(model)
    prompts = recipe.batch_size * recipe.gradient_accumulation
    order = drawn(len(splits.train), prompts, recipe)
    rounds = [order[start : start + prompts] * recipe.rl.passes for start in range(0, len(order), prompts)]
    return Proximal(
        recipe, rewards, reference, model=model, args=config, eval_dataset=splits.validation,
        train_dataset=splits.train.select([row for of_round in rounds for row in of_round]),
        processing_class=tokenizer, callbacks=list(callbacks),
    )


def _start_of(model: Any) -> str | None:
    return REFERENCE if REFERENCE in model.peft_config else None
