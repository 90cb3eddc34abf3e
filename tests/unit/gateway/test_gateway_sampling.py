"""Which requests are drawn, and what of them becomes a sample."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.draw import drawn
from services.gateway.sampling import NotSampledError, conversation, scrub


def chat(*messages: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"model": "r", "messages": list(messages), **fields}).encode()


def whole(text: str | None, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3}}).encode()


def stream(*deltas: dict[str, Any], end: str = "data: [DONE]\n\n") -> bytes:
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + end.encode()


HELLO = {"role": "user", "content": "hello"}


def test_the_same_request_is_always_drawn_or_never_and_the_share_is_the_share() -> None:
    ids = [f"request-{number}" for number in range(20_000)]
    first = [drawn("capture", request_id, 0.1) for request_id in ids]
    assert first == [drawn("capture", request_id, 0.1) for request_id in ids]
    assert sum(first) == pytest.approx(2_000, abs=200)
    assert not any(drawn("capture", request_id, 0.0) for request_id in ids)
    assert all(drawn("capture", request_id, 1.0) for request_id in ids)


def test_a_higher_share_keeps_what_a_lower_one_drew_and_each_purpose_draws_for_itself() -> None:
    ids = [f"request-{number}" for number in range(5_000)]
    few, more = ({i for i in ids if drawn("capture", i, share)} for share in (0.1, 0.2))
    assert few < more
    both = few & {i for i in ids if drawn("shadow", i, 0.1)}
    assert len(both) < len(few) / 4


def test_a_chat_in_one_piece() -> None:
    said = conversation(chat({"role": "system", "content": "be brief"}, HELLO), whole("hi"))
    assert (said.api, [(m.role, m.content) for m in said.messages]) == ("chat", [("system", "be brief"),
                                                                              ("user", "hello")])
    assert (said.answer, said.finish_reason, said.streamed, said.redacted) == ("hi", "stop", False, None)


def test_a_stream_is_put_together() -> None:
    last = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}\n\n'
    usage = 'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\ndata: [DONE]\n\n'
    response = stream({"role": "assistant"}, {"content": "h\u00e9"}, {"content": "llo"}, end=f": ping\n\n{last}{usage}")
    said = conversation(chat(HELLO, stream=True), response)
    assert (said.answer, said.finish_reason, said.streamed) == ("h\u00e9llo", "length", True)


def test_a_completion_is_one_message() -> None:
    request = json.dumps({"model": "r", "prompt": "once upon"}).encode()
    said = conversation(request, json.dumps({"choices": [{"text": " a time"}]}).encode())
    assert (said.api, said.messages[0].content, said.answer) == ("completion", "once upon", " a time")


def test_text_parts_are_text_and_only_the_first_choice_counts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    two = json.dumps({"choices": [{"index": 1, "message": {"content": "no"}},
                                  {"index": 0, "message": {"content": "yes"}}]}).encode()
    said = conversation(chat({"role": "user", "content": parts}), two)
    assert (said.messages[0].content, said.answer) == ("ab", "yes")


@pytest.mark.parametrize(("request_", "response", "reason"), [
    (chat(HELLO, tools=[{"type": "function"}]), whole("x"), "not_text"),
    (chat({"role": "user", "content": [{"type": "image_url"}]}), whole("x"), "not_text"),
    (chat({"role": "assistant", "content": None, "tool_calls": [{}]}), whole("x"), "not_text"),
    (chat(HELLO), whole(None, tool_calls=[{"id": "1"}]), "not_text"),
    (chat(HELLO), stream({"tool_calls": [{}]}), "not_text"),
    (b'{"prompt": ["a", "b"]}', whole("x"), "not_text"),
    (b'{"prompt": 7}', whole("x"), "unreadable"),
    (chat(), whole("x"), "unreadable"),
    (b'{"messages": ["hello"]}', whole("x"), "unreadable"),
    (b'{"messages": ', whole("x"), "unreadable"),
    (b"[" * 100_000, whole("x"), "unreadable"),
    (chat(HELLO), b"", "unreadable"),
    (chat(HELLO), b"{}", "unreadable"),
    (chat(HELLO), b"<html>", "unreadable"),
    (chat(HELLO), b'data: {"choices": [{"delta": 5}]}\n\ndata: [DONE]\n\n', "unreadable"),
    (chat(HELLO), stream({"content": "half"}, end=""), "unreadable"),
])
def test_what_is_no_whole_text_is_no_sample(request_: bytes, response: bytes, reason: str) -> None:
    with pytest.raises(NotSampledError) as caught:
        conversation(request_, response)
    assert caught.value.reason == reason


@given(st.binary(max_size=300))
def test_whatever_a_model_server_answers_is_a_sample_or_is_none(response: bytes) -> None:
    with suppress(NotSampledError):
        conversation(chat(HELLO), response)


def test_scrubbing_reaches_every_text() -> None:
    request = chat({"role": "system", "content": "you: a@b.com"}, {"role": "user", "content": "from 10.0.0.1, c@d.com"})
    said = scrub(conversation(request, whole("call +14155550132")))
    assert [m.content for m in said.messages] == ["you: [EMAIL]", "from [IP], [EMAIL]"]
    assert (said.answer, said.redacted) == ("call [PHONE]", {"EMAIL": 2, "IP": 1, "PHONE": 1})
    assert scrub(conversation(chat(HELLO), whole("hi"))).redacted == {}


def with_logprobs(logprobs: Any, key: str = "message") -> dict[str, Any]:
    return {"choices": [{"index": 0, key: {"content": "ab"}, "logprobs": logprobs, "finish_reason": "stop"}]}


def test_how_surprising_an_answer_was_is_the_mean_over_its_tokens() -> None:
    content = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}
    assert conversation(chat(HELLO), json.dumps(with_logprobs(content)).encode()).surprisal == 1.0
    pieces = [{"content": [{"token": "a", "logprob": -0.5}]}, None, {"content": [{"token": "b", "logprob": -2.5}]}]
    events = "".join(f"data: {json.dumps(with_logprobs(piece, 'delta'))}\n\n" for piece in pieces)
    assert conversation(chat(HELLO, stream=True), f"{events}data: [DONE]\n\n".encode()).surprisal == 1.5
    plain = {"choices": [{"index": 0, "text": "ab", "logprobs": {"token_logprobs": [None, -2, -4]}}]}
    asked = json.dumps({"model": "r", "prompt": "hello"}).encode()
    assert conversation(asked, json.dumps(plain).encode()).surprisal == 3.0


@pytest.mark.parametrize("logprobs", [
    None, [], "x", {}, {"content": None}, {"content": 5}, {"content": [5, None, {}, {"logprob": "x"}]},
    {"content": [{"logprob": True}]}, {"token_logprobs": {"a": 1}},
])
def test_without_log_probabilities_it_is_not_known(logprobs: Any) -> None:
    assert conversation(chat(HELLO), json.dumps(with_logprobs(logprobs)).encode()).surprisal is None


def test_impossible_is_bounded_and_scrubbing_changes_nothing_of_it() -> None:
    content = {"content": [{"logprob": -9999.0}, {"logprob": 0.0}, {"logprob": 3}]}
    said = conversation(chat(HELLO), json.dumps(with_logprobs(content)).encode())
    assert said.surprisal == pytest.approx(100 / 3)
    assert scrub(said).surprisal == said.surprisal
