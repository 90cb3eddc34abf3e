"""Feedback over a real Kafka: acknowledged when it is stored, counted once, and about an answer that was given."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.cli.app import build_app
from services.data_ingest.examples import parse_row
from shared.events import Event, FeedbackReceived, Payload, RouteCapture, Topic
from tests.support.gateway_process import NO_KAFKA
from tests.support.gateway_stand import Stand, exchange, http, read_request, request, running_stand
from tests.support.routes import canary, loaded
from tests.support.topics import events_on
from tests.support.wait import eventually

pytestmark = pytest.mark.integration


async def model_server(reader: Any, writer: Any) -> None:
    while True:
        await read_request(reader)
        writer.write(http(b'{"choices": []}'))


def facts(route: str, capture: RouteCapture | None = None) -> Any:
    def made(urls: list[str]) -> list[Payload]:
        spec = canary(route, f"{route}@1", f"{route}@2", 0).model_copy(update={"capture": capture})
        return [spec, loaded("one", urls[0], f"{route}@1")]

    return made


def ask(stand: Stand, route: str, identity: str) -> None:
    body = {"model": route, "messages": [{"role": "user", "content": "hello"}]}
    assert exchange(stand, request(body, f"x-request-id: {identity}")).status == 200


def judge(stand: Stand, identity: str, **said: Any) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{stand.port}/v1/feedback", json={"request_id": identity, **said},
                      trust_env=False, timeout=30)


def told(broker: str, identity: str) -> list[Event[FeedbackReceived]]:
    return [event for event in events_on(broker, Topic.FEEDBACK) if event.subject == identity]


def sampled(broker: str, route: str) -> list[Event[Any]]:
    return [event for event in events_on(broker, Topic.SAMPLES) if event.data.route == route]


def counts(stand: Stand, route: str, label: str) -> tuple[float, ...]:
    return tuple(stand.value("feedback_total", route=route, model_version=label, verdict=verdict)
                 for verdict in ("good", "neutral", "bad"))


def test_feedback_on_an_answer_is_stored_before_it_is_acknowledged(broker: str) -> None:
    with running_stand(facts("fb"), model_server, kafka_bootstrap=broker) as stand:
        for label in ("fb@1", "fb@2"):
            zero = stand.gateway.metrics.registry.get_sample_value(
                "tuneloop_gateway_feedback_total", {"route": "fb", "model_version": label, "verdict": "bad"}
            )
            assert zero == 0, "a series that began with its first bad word would hide it from increase()"
        ask(stand, "fb", "fb-1")
        answer = judge(stand, "fb-1", label="down", comment="ask a@b.com", correction="refund")
        assert (answer.status_code, answer.json()) == (
            202, {"request_id": "fb-1", "route": "fb", "model_version": "fb@1", "verdict": "bad"}
        )
        [event] = told(broker, "fb-1")
        assert event.data == FeedbackReceived(
            request_id="fb-1", route="fb", model_version="fb@1", score=-1, comment="ask [EMAIL]", correction="refund",
            seen=True,
        )
        assert counts(stand, "fb", "fb@1") == (0, 0, 1)


def test_the_same_again_is_one_and_another_word_replaces_without_counting(broker: str) -> None:
    with running_stand(facts("again"), model_server, kafka_bootstrap=broker) as stand:
        ask(stand, "again", "again-1")
        for _ in range(3):
            assert judge(stand, "again-1", score=1).status_code == 202
        assert judge(stand, "again-1", score=-0.5).status_code == 202
        assert judge(stand, "again-1", score=1).status_code == 202
        events = told(broker, "again-1")
        assert [event.data.score for event in events] == [1, -0.5, 1]
        assert len({event.id for event in events}) == 3, "a word that is taken back is said anew"
        assert counts(stand, "again", "again@1") == (1, 0, 0)


def test_many_at_once_count_once(broker: str) -> None:
    with running_stand(facts("many"), model_server, kafka_bootstrap=broker) as stand:
        ask(stand, "many", "many-1")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: judge(stand, "many-1", score=1).status_code, range(16)))
        assert set(answers) == {202}
        assert len({event.id for event in told(broker, "many-1")}) == 1
        assert counts(stand, "many", "many@1") == (1, 0, 0)


def test_after_a_restart_the_answers_header_says_which_version_it_was(broker: str) -> None:
    with running_stand(facts("other"), model_server, kafka_bootstrap=broker) as stand:
        unknown = judge(stand, "other-1", score=1)
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "request_not_found")
        assert "x-tuneloop-model-version" in unknown.json()["error"]["message"]
        assert judge(stand, "other-1", score=1, model_version="other@9").status_code == 404
        assert judge(stand, "other-1", score=1, model_version="other@2").status_code == 202
        assert judge(stand, "other-1", score=1, model_version="other@2").status_code == 202
        [event] = told(broker, "other-1")
        assert (event.data.model_version, event.data.seen) == ("other@2", False)
        assert counts(stand, "other", "other@2") == (1, 0, 0)
        ask(stand, "other", "other-2")
        conflict = judge(stand, "other-2", score=1, model_version="other@2")
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "other_model_version")


def test_a_route_that_does_not_scrub_keeps_what_was_said(broker: str) -> None:
    rules = RouteCapture(share=0.0, max_bytes=1024, redact=False)
    with running_stand(facts("plain", rules), model_server, kafka_bootstrap=broker) as stand:
        ask(stand, "plain", "plain-1")
        judge(stand, "plain-1", score=0, correction="a@b.com")
        assert told(broker, "plain-1")[0].data.correction == "a@b.com"
        assert counts(stand, "plain", "plain@1") == (0, 1, 0)


def test_corrections_and_liked_answers_become_rows_of_the_next_dataset(broker: str) -> None:
    """From the answer at the gateway to rows as data_ingest takes them, and to the list that a person reviews."""
    async def answering(reader: Any, writer: Any) -> None:
        while True:
            await read_request(reader)
            writer.write(http(b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "refund"}}]}'))

    rules = RouteCapture(share=1.0, max_bytes=4096, redact=True)
    with running_stand(facts("learn", rules), answering, kafka_bootstrap=broker) as stand:
        for number in range(4):
            ask(stand, "learn", f"learn-{number}")
        assert judge(stand, "learn-0", label="up").status_code == 202
        assert judge(stand, "learn-1", label="down", correction="card_arrival", comment="no").status_code == 202
        assert judge(stand, "learn-2", label="down").status_code == 202
        eventually(lambda: len(sampled(broker, "learn")) == 4, what="the samples")
    environment = {"TUNELOOP_KAFKA_BOOTSTRAP": broker}
    done = CliRunner().invoke(build_app(), ["feedback", "export", "learn"], env=environment)
    assert done.exit_code == 0, done.stderr
    rows = [parse_row(line.encode(), offset=0) for line in done.stdout.splitlines()]
    assert sorted(row.messages[-1][1] for row in rows) == ["card_arrival", "refund"]
    assert {row.messages[0][1] for row in rows} == {"hello"}
    listed = CliRunner().invoke(build_app(), ["feedback", "list", "--route", "learn", "--bad", "-o", "json"],
                                env=environment)
    [left] = json.loads(listed.stdout)["items"]
    assert (left["request_id"], left["score"], left["sample"]["answer"]) == ("learn-2", -1, "refund")


def test_without_kafka_it_is_not_acknowledged_and_not_counted() -> None:
    with running_stand(facts("down"), model_server, kafka_bootstrap=NO_KAFKA) as stand:
        ask(stand, "down", "down-1")
        answer = judge(stand, "down-1", score=1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "feedback_not_stored")
        assert answer.headers["retry-after"] == "5"
        assert counts(stand, "down", "down@1") == (0, 0, 0)


def test_what_is_wrong_with_a_feedback_is_said_without_kafka() -> None:
    with running_stand(facts("wrong"), model_server, kafka_bootstrap=NO_KAFKA) as stand:
        answer = judge(stand, "wrong-1")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert "give either score" in answer.json()["error"]["message"]
        got = httpx.get(f"http://127.0.0.1:{stand.port}/v1/feedback", trust_env=False)
        assert (got.status_code, got.json()["error"]["code"]) == (405, "method_not_allowed")
