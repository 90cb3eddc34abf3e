"""What a recipe says of reinforcement learning: what is rewarded, and how far a step may go."""

from typing import Any

from pydantic import Field

from shared.spec_part import SpecPart


class RewardWeights(SpecPart):
    """What each part of the reward is multiplied by before they are added."""

    model: float = Field(
        default=1.0, gt=0,
        description="of the reward model's score; 1, as parts count alike unless you say otherwise",
    )
    exact_match: float = Field(
        default=1.0, gt=0,
        description="of an answer that is the row's; 1, as above",
    )
    json_schema: float = Field(
        default=1.0, gt=0,
        description="of an answer that fits the schema; 1, as above",
    )
    length: float = Field(
        default=1.0, gt=0,
        description="of an answer within the bounds of length; 1, as above",
    )


class RewardRecipe(SpecPart):
    """What an answer is rewarded for, with grpo, rloo and ppo: a reward model's score, and checks that give 1 or 0.

    What is given is added. Scores of a reward model have no natural size; look at its margins before you mix it with
    checks.
    """

    model: str | None = Field(
        default=None, min_length=1,
        description="a reward model: its model version, such as answers-reward@3, the id of the run that trained it, "
        "or the digest of its artifact, sha256:...",
    )
    exact_match: bool = Field(default=False, description="1 if the answer is the row's, but for white space around it")
    json_schema: dict[str, Any] | None = Field(
        default=None, description="1 if the answer is JSON that fits this schema; {} takes any JSON"
    )
    min_characters: int | None = Field(default=None, ge=0, description="1 if the answer is at least so long")
    max_characters: int | None = Field(default=None, ge=1, description="1 if the answer is at most so long")
    weights: RewardWeights = Field(default_factory=RewardWeights, description="of the parts")

    @property
    def bounds_length(self) -> bool:
        """Whether the answer's length is rewarded."""
        return self.min_characters is not None or self.max_characters is not None

    @property
    def parts(self) -> tuple[str, ...]:
        """What is rewarded, by the names that its weights have."""
        given = {
            "model": self.model is not None, "exact_match": self.exact_match,
            "json_schema": self.json_schema is not None, "length": self.bounds_length,
        }
        return tuple(name for name, is_given in given.items() if is_given)


class RlRecipe(SpecPart):
    """How answers are drawn and learned from, with grpo, rloo and ppo."""

    group_size: int = Field(
        default=8, ge=2, le=256,
        description="for grpo and rloo: answers to each prompt, which are compared with each other; fewer are "
        "cheaper, and a noisier comparison: 8 are between",
    )
    clip: float = Field(
        default=0.2, gt=0, lt=1, description="an answer's probability (a token's with ppo) is not moved by more than "
        "this share in a round, as in the paper on PPO"
    )
    kl_coefficient: float = Field(
        default=0.05, ge=0,
        description="what a nat of departure from the base costs, in units of the reward; 0 frees the model from it, "
        "and with grpo and rloo nobody measures it. 0.05 is TRL's for rloo",
    )
    max_kl: float = Field(
        default=100.0, gt=0, description="mean nats of an answer; a run that departs further has failed: by then a "
        "model writes what scores and no language. Answers of a few tokens stay far below"
    )
    temperature: float = Field(
        default=1.0, gt=0, le=2, description="of drawing answers; 1 draws from the very distribution that is learned"
    )
    max_new_tokens: int = Field(
        default=64, ge=1, le=8192, description="of an answer; drawing is most of the time, so no more than you need"
    )
    steps: int | None = Field(
        default=None, ge=1, description="rounds of drawing answers and learning from them; absent: as many as "
        "`epochs` make"
    )
    passes: int = Field(
        default=4, ge=1, le=64, description="for ppo: steps of the optimizer on each round's answers; drawing them "
        "costs more than a step, and clipping keeps a few steps near them"
    )
    gamma: float = Field(
        default=1.0, gt=0, le=1, description="for ppo: what a reward one token later is worth; answers are short "
        "and end"
    )
    gae_lambda: float = Field(
        default=0.95, ge=0, le=1,
        description="for ppo: between the value head's word (0) and the rewards that came (1); 0.95, as in arXiv "
        "1909.08593",
    )
    value_coefficient: float = Field(
        default=0.1, gt=0,
        description="for ppo: of the value head's loss, which shares the model with the policy; a tenth, so that the "
        "policy leads",
    )
    value_clip: float = Field(
        default=0.2, gt=0,
        description="for ppo: a value is not moved by more in a round; as `clip`",
    )
    kl_target: float | None = Field(
        default=None, gt=0, description="for ppo: mean nats of an answer that klCoefficient is moved towards, by at "
        "most 2 % in a round; absent: it stays"
    )
