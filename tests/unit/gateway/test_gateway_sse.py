"""Streams: cut at event ends wherever the network cuts, and measured by their output events."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.sse import EventCutter, EventTooLongError, StreamMeter, token_counts, usage_of


def event(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def chat(text: str) -> bytes:
    return event(choices=[{"delta": {"content": text}}])


STREAM = (
    b": comment\n\ndata: " + event(choices=[{"delta": {"role": "assistant", "content": ""}}]) + b"\n\n"
    b"event: x\r\ndata: " + chat("a") + b"\r\n\r\ndata: " + chat("b\n\nc") + b"\n\n"
    b"data: two\ndata: lines\n\ndata: [DONE]\n\n"
)
ROLE = event(choices=[{"delta": {"role": "assistant", "content": ""}}])
PAYLOADS = [ROLE, chat("a"), chat("b\n\nc"), b"two\nlines", b"[DONE]"]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_found_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    cutter, passed, payloads = EventCutter(), b"", []
    for start, end in pairwise(edges):
        whole, found = cutter.feed(STREAM[start:end])
        assert not whole or whole.endswith((b"\n\n", b"\r\n"))
        passed += whole
        payloads += found
    assert passed == STREAM
    assert payloads == PAYLOADS


def test_half_an_event_is_held_back() -> None:
    whole, payloads = EventCutter().feed(b"data: 1\n\ndata: {\"cho")
    assert (whole, payloads) == (b"data: 1\n\n", [b"1"])


def test_an_endless_event_is_not_held() -> None:
    cutter = EventCutter(limit=10)
    with pytest.raises(EventTooLongError):
        cutter.feed(b"data: 0123456789")


def test_the_mean_gap_is_of_the_whole_stream_however_it_was_batched() -> None:
    meter = StreamMeter(started=100.0)
    meter.see([chat("a")], 101.0)
    assert meter.mean_gap is None
    meter.see([chat("b"), chat("c"), chat("d")], 101.6)
    meter.see([ROLE], 105.0)
    assert meter.mean_gap == pytest.approx(0.2)


def test_the_first_token_is_the_first_output() -> None:
    meter = StreamMeter(started=100.0)
    assert meter.see([ROLE], 100.1) == (0.0, 0)
    assert meter.first_token is None
    assert meter.see([chat("a")], 100.5) == (0.0, 0)
    assert meter.first_token == pytest.approx(0.5)
    assert meter.see([chat("b")], 100.75) == (0.25, 1)
    assert meter.see([chat("c"), chat("d")], 101.0) == (0.125, 2)
    assert meter.see([event(choices=[{"delta": {}, "finish_reason": "stop"}]), b"[DONE]"], 101.2) == (0.0, 0)
    assert meter.first_token == pytest.approx(0.5)
    assert meter.done


def test_tokens_that_come_with_the_first_have_no_time_between_them() -> None:
    meter = StreamMeter(started=0.0)
    assert meter.see([chat("a"), chat("b"), chat("c")], 1.0) == (0.0, 2)
    assert meter.first_token == 1.0


@pytest.mark.parametrize(
    "payload",
    [event(choices=[{"text": "a"}]), event(choices=[{"delta": {"tool_calls": [{"index": 0}]}}]),
     event(choices=[{"delta": {"reasoning_content": "hm"}}])],
)
def test_other_kinds_of_output_count(payload: bytes) -> None:
    meter = StreamMeter(0.0)
    meter.see([payload], 1.0)
    assert meter.first_token == 1.0


@pytest.mark.parametrize(
    "payload", [b"not json", b"[]", b"{}", event(choices=None), event(choices=[1]), event(choices=[{"delta": 1}])]
)
def test_strange_events_are_passed_and_not_counted(payload: bytes) -> None:
    meter = StreamMeter(0.0)
    assert meter.see([payload], 1.0) == (0.0, 0)
    assert meter.first_token is None


def test_usage_and_errors_in_a_stream_are_seen() -> None:
    meter = StreamMeter(0.0)
    meter.see([event(usage={"prompt_tokens": 1}), event(usage={"prompt_tokens": 3, "completion_tokens": 4})], 1.0)
    assert token_counts(meter.usage) == (3, 4)
    meter.see([event(error={"message": "out of memory"})], 1.0)
    assert meter.error == "out of memory"


def test_usage_of_an_answer_in_one_piece() -> None:
    assert token_counts(usage_of(event(usage={"prompt_tokens": 5, "completion_tokens": 6}))) == (5, 6)
    assert token_counts(usage_of(event(usage={"prompt_tokens": "5", "completion_tokens": -1}))) == (0, 0)
    assert usage_of(b"not json") is None
    assert usage_of(b"[]") is None
    assert token_counts(None) == (0, 0)
