"""Asks the planner, `services.rollout.plan`; a process of its own, as it imports what the command line must not."""

from services.cli import workers
from services.cli.client import Json
from shared.pipeline import ExpectedTraffic, RolloutPolicy

_PLANNER = "services.rollout.plan"
_TIMEOUT_SECONDS = 600
# For `tuneloop apply`: enough to tell "most" from "few", in about a second.
_CHECK_RUNS = 100
_ENOUGH = 0.8
# Where nobody says how much traffic there is: what cannot be met with this much cannot be met at all.
_PLENTY = ExpectedTraffic(requests_per_minute=6000)


def ask(request: Json) -> Json:
    """The planner's answer; `services.rollout.plan.contract` says what both look like.

    Raises:
        CliError: the planner refused the question, or cannot run here.
    """
    return workers.ask(_PLANNER, request, who="the planner, which runs the controller's code,", extra="rollout",
                       timeout=_TIMEOUT_SECONDS, hint="ask for fewer --runs")


def question(policy: RolloutPolicy, traffic: Json, candidates: list[Json], **limits: int) -> Json:
    """A request to the planner."""
    return {"policy": policy.model_dump(mode="json"), "traffic": traffic, "candidates": candidates, **limits}


def traffic_of(expected: ExpectedTraffic) -> Json:
    """What a policy expects, as the planner is asked."""
    return expected.model_dump(mode="json", by_alias=False)


def doubt(policy: RolloutPolicy) -> Json | None:
    """How a good candidate fares, where its chance to be promoted by the deadline is small; None where it is not.

    Reckons with the policy's `expectedTraffic`; without it, with more than most routes ever get.
    """
    traffic = traffic_of(policy.expected_traffic or _PLENTY)
    answer = ask(question(policy, traffic, [{"name": "good"}], runs=_CHECK_RUNS))
    [good] = answer["candidates"]
    return {**good, "traffic": traffic} if good["ends"]["promoted"]["share"] < _ENOUGH else None
