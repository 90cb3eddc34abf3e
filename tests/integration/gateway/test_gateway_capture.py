"""Samples on a real Kafka: what they hold, which requests they are of, and that their loss hurts nobody."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.events import Event, InferenceSampled, Payload, RouteCapture, Topic
from shared.messaging.topics import create_topics
from tests.support.broker import start_tansu
from tests.support.gateway_process import NO_KAFKA, running_gateway, running_model_server
from tests.support.gateway_stand import (
    STREAM_HEAD,
    Answer,
    Stand,
    chunked,
    exchange,
    http,
    read_request,
    request,
    running_stand,
)
from tests.support.routes import BASE_MODEL, canary, loaded, ready, route
from tests.support.topics import events_on, publish
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

ANSWER = "your card 4111 1111 1111 1111 is fine"


async def model_server(reader: Any, writer: Any) -> None:
    while True:
        _, body = await read_request(reader)
        if body.get("stream"):
            words = ANSWER.split(" ") * body.get("times", 1)
            events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
            events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 8}})
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            writer.write(STREAM_HEAD + chunked(lines.encode()) + b"0\r\n\r\n")
        elif body.get("fail"):
            writer.write(http(b"{}", status="500 Oh"))
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 5, "completion_tokens": 8}
            writer.write(http(json.dumps({"choices": [choice], "usage": usage}).encode()))


def facts(name: str, **rules: Any) -> Any:
    capture = RouteCapture(**{"share": 1.0, "max_bytes": 4_096, **rules}) if rules != {"share": None} else None

    def made(urls: list[str]) -> list[Payload]:
        spec = canary(name, f"{name}@1", f"{name}@2", 0).model_copy(update={"capture": capture})
        return [spec, loaded("one", urls[0], f"{name}@1")]

    return made


def ask(stand: Stand, model: str, identity: str, content: str = "from a@b.com", **fields: Any) -> Answer:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
    return exchange(stand, request({"model": model, "messages": messages, "user": "u-1", **fields},
                                   f"x-request-id: {identity}"))


def samples(broker: str, name: str) -> dict[str, Event[InferenceSampled]]:
    return {event.subject: event for event in events_on(broker, Topic.SAMPLES) if event.data.route == name}


def dropped(stand: Stand, reason: str) -> float:
    return stand.value("capture_dropped_total", reason=reason)


def test_a_sample_holds_what_was_said_and_nothing_personal(broker: str) -> None:
    with running_stand(facts("whole"), model_server, kafka_bootstrap=broker) as stand:
        assert ask(stand, "whole", "one-piece").status == 200
        assert ask(stand, "whole", "streamed", stream=True).status == 200
        eventually(lambda: stand.value("capture_sent_total") == 2)
        found = samples(broker, "whole")
        assert sorted(found) == ["one-piece", "streamed"]
        for identity, event in found.items():
            data = event.data
            assert (data.route, data.model_version, data.api) == ("whole", "whole@1", "chat")
            assert [(m.role, m.content) for m in data.messages] == [("system", "be brief"), ("user", "from [EMAIL]")]
            assert (data.prompt_tokens, data.completion_tokens, data.finish_reason) == (5, 8, "stop")
            assert 0 < data.latency_seconds < 20
            assert data.streamed is (identity == "streamed")
            assert (event.source, event.correlation_id, event.sequence) == ("gateway", identity, 1)
        assert found["one-piece"].data.answer == "your card [CARD] is fine"
        assert found["one-piece"].data.redacted == {"EMAIL": 1, "CARD": 1}
        assert found["one-piece"].data.unit == found["streamed"].data.unit
        assert len(found["one-piece"].data.unit) == 16
        assert "u-1" not in found["one-piece"].data.model_dump_json()


def test_a_route_that_does_not_scrub_says_so(broker: str) -> None:
    with running_stand(facts("raw", redact=False), model_server, kafka_bootstrap=broker) as stand:
        ask(stand, "raw", "raw-1")
        eventually(lambda: stand.value("capture_sent_total") == 1)
        data = samples(broker, "raw")["raw-1"].data
        assert (data.messages[1].content, data.answer, data.redacted) == ("from a@b.com", ANSWER, None)


def test_the_share_is_drawn_and_without_rules_there_is_none(broker: str) -> None:
    with running_stand(facts("some", share=0.3), model_server, kafka_bootstrap=broker) as stand:
        for number in range(100):
            ask(stand, "some", f"some-{number}")
        first = len(eventually(lambda: samples(broker, "some")))
    with running_stand(facts("off", share=None), model_server, kafka_bootstrap=broker) as stand:
        assert ask(stand, "off", "off-1").status == 200
    assert 15 <= first <= len(samples(broker, "some")) <= 45
    assert samples(broker, "off") == {}


def test_what_cannot_be_a_sample_is_counted_by_its_reason(broker: str) -> None:
    with running_stand(
        facts("odd"), model_server, kafka_bootstrap=broker, capture_answer_bytes=1_024
    ) as stand:
        ask(stand, "odd", "odd-1", tools=[{"type": "function"}])
        ask(stand, "odd", "odd-2", content="x" * 5_000)
        ask(stand, "odd", "odd-3", stream=True, times=10)
        ask(stand, "odd", "odd-4", fail=True)
        eventually(lambda: (dropped(stand, "not_text"), dropped(stand, "too_large")) == (1, 2))
    assert samples(broker, "odd") == {}


def test_without_kafka_answers_are_as_ever_and_samples_are_lost_and_counted() -> None:
    with running_stand(facts("lost"), model_server, kafka_bootstrap=NO_KAFKA) as stand:
        for number in range(20):
            assert ask(stand, "lost", f"lost-{number}").status == 200
        eventually(lambda: dropped(stand, "kafka") == 20)
        assert stand.value("requests_total", route="lost", model_version="lost@1", outcome="ok") == 20


def test_a_full_queue_drops_at_once() -> None:
    with running_stand(facts("full"), model_server, kafka_bootstrap=NO_KAFKA, capture_queue_bytes=1_100) as stand:
        assert ask(stand, "full", "full-1").status == 200
        assert dropped(stand, "queue_full") == 1


def test_kafka_that_comes_back_gets_the_samples_from_then_on() -> None:
    with start_tansu() as gone:
        port = int(gone.rsplit(":", 1)[1])
    with running_stand(facts("back"), model_server, kafka_bootstrap=gone) as stand:
        ask(stand, "back", "back-1")
        eventually(lambda: dropped(stand, "kafka") == 1)
        with start_tansu(port=port) as bootstrap:
            create_topics(bootstrap)

            def one_more() -> bool:
                ask(stand, "back", "back-2")
                return stand.value("capture_sent_total") > 0

            eventually(one_more, interval=0.5)
            assert "back-2" in samples(bootstrap, "back")
            assert "back-1" not in samples(bootstrap, "back"), "at most once, and never late"


def test_what_route_updated_says_counts_at_once_and_a_gateway_that_ends_sends_what_waits(tmp_path: Path) -> None:
    """As processes, with the rules from Kafka; and the last samples are there although the gateway was told to end."""
    with running_model_server(BASE_MODEL) as url, start_tansu() as bootstrap:
        create_topics(bootstrap)
        with running_gateway(tmp_path, KAFKA_BOOTSTRAP=bootstrap) as gateway:
            publish(bootstrap, route("live"), ready("one", url))
            eventually(lambda: gateway.chat("live", "say a").status_code == 200)
            rules = RouteCapture(share=1.0, max_bytes=4_096)
            publish(bootstrap, route("live", revision=2).model_copy(update={"capture": rules}))
            eventually(lambda: gateway.metric("route_revision", route="live") == 2)
            for number in range(20):
                assert gateway.chat("live", "say hello", headers={"x-request-id": f"live-{number}"}).status_code == 200
            gateway.terminate()
            assert gateway.process.wait(20) == 0
        found = samples(bootstrap, "live")
        assert sorted(found) == sorted(f"live-{number}" for number in range(20))
        assert {event.data.model_version for event in found.values()} == {None}
