"""Two answers to one request: which is the bad one, and whom the controller is told of."""

from typing import Any

import pytest

from services.gateway.checker import StructureChecker
from services.gateway.metrics import GatewayMetrics
from services.gateway.pairs import Pairs, compared, copied
from services.gateway.record import Record
from services.gateway.shadow_metrics import ShadowOutcome
from services.gateway.unit_teller import Met
from shared.events import CountedEvent
from shared.gateway_metrics import PairResult
from tests.support.routes import canary
from tests.unit.gateway.test_gateway_unit_events import COUNTED, plan

BEGUN = 1e12  # long after the split was drawn
OK = b'{"choices": []}'
REFUSAL = b'{"choices": [{"message": {"refusal": "no"}}]}'


class Judge:
    """Pairs of one route, of a user each unless said otherwise."""

    def __init__(self) -> None:
        self.plan = plan(counted=[*COUNTED, CountedEvent(event="pair_errors")])
        self.metrics = GatewayMetrics()
        self.metrics.use(self.plan)
        self.told: list[Met] = []
        self.metrics.unit_events.tell(lambda _route, _salt, met, _unit: self.told.append(met))
        checker = StructureChecker(self.metrics.answers.of, lambda _record, _begun: None)
        self.pairs = Pairs(self.metrics, checker, lambda call: call(), seconds=60.0)

    def judge(self, copy: ShadowOutcome, answer: bytes | None = OK, *, unit: int = 1, **primary: Any) -> None:
        stable = self.plan.routes["r"].targets["stable"]
        record = Record(
            request_id="1", unit=unit, route="r", target=stable, path="/", request=b"{}", status=200,
            outcome="ok", error="", started=0.0, seconds=0.1, first_token=None, usage=None, response=None,
            truncated=False,
        )._replace(**primary)
        self.pairs.judge(record, self.plan.routes["r"].targets["candidate"], BEGUN, copy, answer)

    def count(self, metric: str, result: PairResult) -> float:
        return self.metrics.shadow("r", "r@1").pairs[metric, result].value


@pytest.mark.parametrize(("primary", "copy", "result"), [
    (False, False, "alike"), (True, True, "alike"), (False, True, "copy_worse"), (True, False, "primary_worse"),
])
def test_only_one_bad_answer_of_two_says_something(primary: bool, copy: bool, result: PairResult) -> None:
    assert compared(primary=primary, copy=copy) == result


def test_both_have_the_same_time() -> None:
    judge = Judge()
    judge.judge("timeout", None)
    judge.judge("ok", seconds=61.0)
    judge.judge("timeout", None, seconds=61.0)
    assert [judge.count("errors", result) for result in ("copy_worse", "primary_worse", "alike")] == [1, 1, 1]


def test_a_refusal_is_compared_where_both_are_whole() -> None:
    judge = Judge()
    judge.judge("ok", REFUSAL)
    judge.judge("ok", REFUSAL, refused=True)
    judge.judge("ok", refused=True)
    judge.judge("error", refused=True)
    judge.judge("ok", None, refused=True)
    assert [judge.count("refusals", result) for result in ("copy_worse", "alike", "primary_worse")] == [1, 1, 1]


def test_a_user_is_told_of_once_with_the_version_that_was_worse_first() -> None:
    judge = Judge()
    judge.judge("ok")
    for _ in range(3):
        judge.judge("error", unit=2)
    judge.judge("ok", outcome="error", unit=2)
    judge.judge("ok", outcome="error", unit=3)
    firsts = [met for met in judge.told if met.times == 1]
    assert firsts == [Met("r@1", "pair_errors", None, 1), Met("base", "pair_errors", None, 1)]


@pytest.mark.parametrize("outcome", ["dropped", "unclear"])
def test_what_nobody_can_judge_is_no_pair(outcome: ShadowOutcome) -> None:
    judge = Judge()
    judge.judge(outcome, None)
    assert not any(judge.count("errors", result) for result in ("copy_worse", "primary_worse", "alike"))


@pytest.mark.parametrize(("outcome", "error", "worth"), [
    ("ok", "", True), ("error", "", True), ("error", "upstream_failed", True), ("rejected", "", False),
    ("error", "upstream_unreachable", False), ("error", "shutting_down", False),
])
def test_what_a_model_answered_is_copied(outcome: str, error: str, worth: bool) -> None:
    target = plan().routes[canary("r", None, "r@1", 0).route].targets["stable"]
    record = Record("1", 1, "r", target, "/", b"{}", 200, outcome, error, 0.0, 0.1, None, None, None, truncated=False)  # type: ignore[arg-type]
    assert copied(record) is worth
