"""What may be said about which answer, and what of it counts."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.gateway.doorkeeper import ANYONE, admit_anyone
from services.gateway.errors import ApiError
from services.gateway.feedback import Answers, Asked, Feedback, event_id, note, parse_feedback, resolve
from services.gateway.feedback_door import FeedbackDoor
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, compile_plan
from services.gateway.sender import EventSender
from services.gateway.table import RouteTable, apply
from shared.api_keys import new_key
from shared.events import CountedEvent, FeedbackReceived
from shared.messaging.broker import Outgoing
from tests.support.routes import canary, fact, route

ASKED = Asked(unit=7, begun=1e9)


def feedback(**fields: Any) -> Feedback:
    return parse_feedback(json.dumps({"request_id": "id-1", **fields}).encode())


@pytest.fixture
def plan() -> Plan:
    table = RouteTable()
    for payload in (canary("r", "r@1", "r@2", 1_000), route("other")):
        table = apply(table, fact(payload))
    return compile_plan(table)


@pytest.mark.parametrize(("fields", "value", "verdict"), [
    ({"score": 1}, 1, "good"), ({"score": 0.1}, 0.1, "good"), ({"score": 0}, 0, "neutral"), ({"score": -1}, -1, "bad"),
    ({"label": "up"}, 1, "good"), ({"label": "down", "comment": "no"}, -1, "bad"),
])
def test_a_judgement_is_a_score_or_a_word(fields: dict[str, Any], value: float, verdict: str) -> None:
    said = feedback(**fields)
    assert (said.value, said.verdict) == (value, verdict)


@pytest.mark.parametrize(("raw", "code", "param"), [
    (b"", "invalid_json", None),
    (b"[1]", "invalid_request", "the body"),
    (b'{"score": 1}', "invalid_request", "request_id"),
    (b'{"request_id": "a b", "score": 1}', "invalid_request", "request_id"),
    (b'{"request_id": "a"}', "invalid_request", "the body"),
    (b'{"request_id": "a", "score": 1, "label": "up"}', "invalid_request", "the body"),
    (b'{"request_id": "a", "score": 2}', "invalid_request", "score"),
    (b'{"request_id": "a", "score": true}', "invalid_request", "score"),
    (b'{"request_id": "a", "score": NaN}', "invalid_request", "score"),
    (b'{"request_id": "a", "score": "1"}', "invalid_request", "score"),
    (b'{"request_id": "a", "label": "meh"}', "invalid_request", "label"),
    (b'{"request_id": "a", "score": 1, "coment": "typo"}', "invalid_request", "coment"),
    (json.dumps({"request_id": "a", "score": 1, "comment": "x" * 4001}).encode(), "invalid_request", "comment"),
])
def test_what_is_wrong_is_named(raw: bytes, code: str, param: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        parse_feedback(raw)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)


def test_an_answer_of_this_gateway_is_known_also_when_its_version_has_left(plan: Plan) -> None:
    answers = Answers(limit=10)
    answers.give("id-1", "gone", "gone@7", ASKED)
    found = resolve(feedback(score=1), answers, plan, ANYONE)
    assert (found.route, found.label, found.seen) == ("gone", "gone@7", True)
    assert resolve(feedback(score=1, model_version="gone@7"), answers, plan, ANYONE) is found
    with pytest.raises(ApiError, match="was answered by 'gone@7'") as caught:
        resolve(feedback(score=1, model_version="r@1"), answers, plan, ANYONE)
    assert caught.value.status == 409


@pytest.mark.parametrize(("fields", "expected"), [
    ({"model_version": "r@2"}, ("r", "r@2")),
    ({"model_version": "r@1", "route": "r"}, ("r", "r@1")),
    ({"model_version": "base", "route": "other"}, ("other", "base")),
])
def test_an_answer_of_elsewhere_needs_a_version_that_is_in_the_route_table(
    plan: Plan, fields: dict[str, str], expected: tuple[str, str],
) -> None:
    found = resolve(feedback(score=1, **fields), Answers(limit=10), plan, ANYONE)
    assert (found.route, found.label, found.seen) == (*expected, False)


@pytest.mark.parametrize("fields", [
    {}, {"model_version": "r@3"}, {"model_version": "base"}, {"model_version": "base", "route": "r"},
    {"model_version": "nobody@1"}, {"model_version": "r@1", "route": "other"}, {"model_version": ""},
])
def test_an_answer_that_nobody_knows_is_404_with_what_to_do(plan: Plan, fields: dict[str, str]) -> None:
    with pytest.raises(ApiError, match=r"does not remember a request 'id-1'.*route") as caught:
        resolve(feedback(score=1, **fields), Answers(limit=10), plan, ANYONE)
    assert (caught.value.status, caught.value.code) == (404, "request_not_found")


def test_a_key_that_may_not_use_the_route_learns_nothing(plan: Plan) -> None:
    _, stranger = new_key("a", routes=frozenset({"other"}), requests_per_minute=1, burst=1, expires=None)
    answers = Answers(limit=10)
    answers.give("id-1", "r", "r@1", ASKED)
    with pytest.raises(ApiError) as known:
        resolve(feedback(score=1), answers, plan, stranger)
    with pytest.raises(ApiError) as unknown:
        resolve(feedback(score=1), Answers(limit=10), plan, stranger)
    assert known.value.body() == unknown.value.body()


def test_memory_is_bounded_and_made_up_ids_do_not_push_out_answers(plan: Plan) -> None:
    answers = Answers(limit=3)
    answers.give("id-1", "r", "r@1", ASKED)
    for number in range(10):
        answers.tell(f"made-up-{number}", "r", "r@2")
    assert answers.find("id-1") is not None
    for number in range(3):
        answers.give(f"later-{number}", "r", "r@1", ASKED)
    assert answers.find("id-1") is None
    assert answers.tell("made-up-9", "r", "r@2") is answers.tell("made-up-9", "r", "r@2")


def test_the_first_of_each_key_counts_and_later_ones_replace_without_counting() -> None:
    answers = Answers(limit=3)
    answers.give("id-1", "r", "r@1", ASKED)
    answer = answers.find("id-1")
    assert answer is not None
    down, up = feedback(label="down"), feedback(score=1)
    assert note(answer, "a", down.digest())
    assert not note(answer, "a", up.digest())
    assert answer.said == {"a": up.digest()}
    assert note(answer, "b", down.digest())
    # A request id that is used again is another answer.
    answers.give("id-1", "r", "r@2", ASKED)
    again = answers.find("id-1")
    assert again is not None
    assert note(again, "a", down.digest())


def test_the_keys_remembered_of_one_answer_are_bounded() -> None:
    answers = Answers(limit=3)
    answer = answers.tell("id-1", "r", "r@1")
    counted = sum(note(answer, f"key{number}", "digest") for number in range(100))
    assert counted == len(answer.said) == 16


def test_the_same_said_again_is_the_same_event() -> None:
    down, up = feedback(label="down"), feedback(label="up")
    assert event_id(down, "a", "") == event_id(feedback(score=-1.0), "a", "")
    ids = {event_id(down, "a", ""), event_id(down, "b", ""), event_id(up, "a", down.digest()),
           event_id(down, "a", up.digest()), event_id(feedback(label="down", comment="why"), "a", "")}
    assert len(ids) == 5


def test_a_kafka_that_is_silent_is_waited_for_only_so_long_and_a_late_one_is_not_counted(plan: Plan) -> None:
    """The sender's thread is not started: nobody ever answers, until the test does."""
    answers, metrics, sink = Answers(limit=3), GatewayMetrics(), Taker()
    answers.give("id-1", "r", "r@1", ASKED)
    sender = EventSender("feedback", lambda: sink, max_bytes=10_000)
    hurried, patient = (
        FeedbackDoor(sender, answers, metrics, lambda: plan, admit_anyone, seconds=seconds) for seconds in (0.05, 60.0)
    )

    async def judge() -> None:
        with pytest.raises(ApiError) as caught:
            await hurried.post(posted({"request_id": "id-1", "score": 1}))
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "feedback_not_stored", 5)
        sender.send_waiting()
        await asyncio.sleep(0)
        sender.start()
        answer = await patient.post(posted({"request_id": "id-1", "score": 1}))
        assert answer.status_code == 202

    asyncio.run(judge())
    sender.finish()
    sender.join(5)
    labels = {"route": "r", "model_version": "r@1", "verdict": "good"}
    assert metrics.registry.get_sample_value("tuneloop_gateway_feedback_total", labels) == 1
    del labels["verdict"]
    assert metrics.registry.get_sample_value("tuneloop_gateway_feedback_score_total", labels) == 1
    first, second = sink.ids
    assert first == second, "whoever reads the events sees one"


def test_feedback_beyond_what_may_wait_is_refused_at_once(plan: Plan) -> None:
    answers = Answers(limit=3)
    answers.give("id-1", "r", "r@1", ASKED)
    sender = EventSender("feedback", Taker, max_bytes=100)
    door = FeedbackDoor(sender, answers, GatewayMetrics(), lambda: plan, admit_anyone, seconds=60)
    with pytest.raises(ApiError, match="could not be stored in time"):
        asyncio.run(door.post(posted({"request_id": "id-1", "score": 1})))


# --- Who had asked ----------------------------------------------------------------------------------------------------


class Judged:
    """A gateway whose route counts who was judged; what it tells of, and a door that Kafka always opens."""

    def __init__(self, answers: Answers) -> None:
        self.told: list[tuple[str, str, int, int]] = []
        self.metrics = GatewayMetrics()
        self.metrics.unit_events.tell(
            lambda _route, _salt, met, unit: self.told.append((met.label, met.event, met.times, unit))
        )
        self.use("salt")
        self.sender = EventSender("feedback", Taker, max_bytes=100_000)
        self.door = FeedbackDoor(self.sender, answers, self.metrics, lambda: self.plan, admit_anyone, seconds=60)

    def use(self, salt: str) -> None:
        counted = [CountedEvent(event=event) for event in ("judged", "thumbs_down")]
        spec = canary("r", "r@1", "r@2", 1_000).model_copy(update={"salt": salt, "counted": counted})
        self.plan = compile_plan(apply(RouteTable(), fact(spec)))
        self.metrics.use(self.plan)

    def post(self, *documents: dict[str, Any]) -> None:
        async def post_all() -> None:
            for document in documents:
                assert (await self.door.post(posted(document))).status_code == 202

        self.sender.start()
        asyncio.run(post_all())
        self.sender.finish()
        self.sender.join(5)


def heard(request: str = "id-1", version: str | None = "r@1", score: float = -1, **fields: Any) -> FeedbackReceived:
    """What another gateway took in."""
    return FeedbackReceived.model_validate(
        {"request_id": request, "route": "r", "model_version": version, "score": score, "seen": False, **fields}
    )


def test_the_unit_of_a_judged_answer_is_told_of_once_for_the_first_word_on_it() -> None:
    answers = Answers(limit=10)
    for request, unit in (("id-1", 7), ("id-2", 8), ("id-3", 7)):
        answers.give(request, "r", "r@1", Asked(unit, begun=1e9))
    gateway = Judged(answers)
    gateway.post(
        {"request_id": "id-1", "score": -0.5}, {"request_id": "id-1", "score": -1}, {"request_id": "id-2", "score": 1},
        {"request_id": "id-3", "label": "down"}, {"request_id": "elsewhere", "label": "down", "model_version": "r@2"},
    )
    assert gateway.told == [
        ("r@1", "judged", 1, 7), ("r@1", "thumbs_down", 1, 7), ("r@1", "judged", 1, 8),
    ], "the second word on id-1 counts nothing, id-3 is of a known unit, and of the last nobody here knows whose"


def test_a_judgement_of_an_answer_under_another_salt_is_of_no_unit() -> None:
    """It comes when the next rollout has begun, or when none is there any more."""
    answers = Answers(limit=10)
    gateway = Judged(answers)
    answers.give("id-1", "r", "r@1", Asked(7, begun=time.perf_counter()))
    answers.give("id-2", "r", "r@1", Asked(9, begun=time.perf_counter()))
    gateway.use("next")
    answers.give("id-3", "r", "r@1", Asked(8, begun=time.perf_counter()))
    gateway.door.heard(heard("id-1"))
    gateway.door.heard(heard("id-3"))
    assert {unit for *_, unit in gateway.told} == {8}
    gateway.metrics.use(Plan())
    gateway.door.heard(heard("id-2"))
    assert {unit for *_, unit in gateway.told} == {8}


def test_what_another_gateway_hears_of_an_answer_of_this_one_counts_its_unit_once() -> None:
    answers = Answers(limit=10)
    for request, label in (("id-1", "r@1"), ("id-2", "r@1-control"), ("id-3", "base")):
        answers.give(request, "r", label, ASKED)
    gateway = Judged(answers)
    for said in (heard("unknown"), heard(version="r@2"), heard(route="other"), heard(seen=True)):
        gateway.door.heard(said)
    assert gateway.told == []
    gateway.door.heard(heard(score=0.5, key="a"))
    assert gateway.told == [("r@1", "judged", 1, 7)]
    gateway.door.heard(heard(key="a"))
    assert len(gateway.told) == 1, "the first word of a key counts"
    gateway.door.heard(heard("id-2"))
    assert gateway.told[1:] == [("r@1-control", "thumbs_down", 1, 7)], "an event names the version, and not the control"
    gateway.door.heard(heard("id-3", version=None))
    gateway.post({"request_id": "id-3", "label": "down"})
    labels = {"route": "r", "model_version": "base", "verdict": "bad"}
    assert not gateway.metrics.registry.get_sample_value("tuneloop_gateway_feedback_total", labels), "counted elsewhere"


class Taker:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.ids: list[bytes] = []

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        self.ids += [dict(record.headers)["ce_id"] for record in records]
        return [None] * len(records)

    def close(self) -> None:
        """Nothing is under way."""


def posted(document: dict[str, Any]) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(document).encode(), "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/v1/feedback", "headers": []}, receive)
