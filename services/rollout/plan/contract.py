"""What the planner is asked, and what it answers; JSON on stdin and stdout."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.pipeline import RolloutPolicy

Rate = Annotated[float, Field(ge=0, le=1)]
End = Literal["promoted", "rolled_back", "undecided"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Traffic(_Part):
    """What the route gets.

    Attributes:
        requests_per_minute: of the whole route, arriving independently (Poisson).
        bad_rate: stable's share of bad events, for every guardrail that `bad_rates` does not name.
        bad_rates: the same by guardrail's name.
        users: distinct ones who take turns; None where nobody knows.
    """

    requests_per_minute: float = Field(gt=0)
    bad_rate: Rate = 0.01
    bad_rates: dict[str, Rate] = {}
    users: int | None = Field(default=None, gt=0)


class Candidate(_Part):
    """One candidate that the policy shall meet.

    Attributes:
        bad_rate: its share of bad events for `guardrail`; as stable for all others. None for stable's where it is good;
            where it is bad, for ten times stable's and at least twice what is tolerable. For what decides an A/B test,
            None for a fifth of stable's share better or worse, beyond the minimum effect.
        guardrail: by name; None for what decides the A/B test, else for the policy's first.
    """

    name: Literal["good", "bad"]
    bad_rate: Rate | None = None
    guardrail: str | None = None


class Request(_Part):
    """A question to the planner. The same seed gives the same answer.

    Attributes:
        runs: rollouts to simulate per candidate, at most: fewer where they take many looks, to bound the time.
        horizon: how many deadlines long a simulated rollout may take, to say what a longer deadline would give.
    """

    policy: RolloutPolicy
    traffic: Traffic
    candidates: list[Candidate] = Field(min_length=1)
    runs: int = Field(default=200, ge=1, le=100_000)
    horizon: float = Field(default=4.0, ge=1)
    seed: int = 1


class Chance(_Part):
    """A share of the simulated rollouts, and its Monte-Carlo error as Wilson's interval at 95 %."""

    share: float
    low: float
    high: float


class Spread(_Part):
    """The median, and what 90 % are within."""

    median: float
    p90: float


class Answer(_Part):
    """What became of one candidate's rollouts. Seconds are from the first weight.

    Attributes:
        guardrail: the one (or the A/B test) that its bad rate is of.
        runs: simulated rollouts.
        ends: by the deadline.
        seconds: until the decision, of those that were promoted (rolled back) by the deadline.
        requests: answered by the candidate until the decision or the deadline.
        users: distinct ones that it answered; None without `Traffic.users`.
        fired: how often each guardrail, or rule, was what rolled back.
        promoted_90_seconds: a deadline by which nine of ten would be promoted; None where the horizon is too short.
    """

    name: Literal["good", "bad"]
    guardrail: str
    stable_bad_rate: float
    candidate_bad_rate: float
    runs: int
    ends: dict[End, Chance]
    seconds: dict[End, Spread]
    requests: Spread
    users: Spread | None
    fired: dict[str, int]
    promoted_90_seconds: float | None


class Plan(_Part):
    """The answer to a `Request`."""

    traffic: Traffic
    candidates: list[Answer]
