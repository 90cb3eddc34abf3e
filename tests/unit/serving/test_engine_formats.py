"""Answers look as OpenAI's do."""

import json
from typing import Any

from services.serving.engine.formats import DONE, Answer, Usage, model_card


def event(chunk: bytes) -> dict[str, Any]:
    assert chunk.startswith(b"data: ")
    assert chunk.endswith(b"\n\n")
    body: dict[str, Any] = json.loads(chunk[6:])
    return body


def test_a_whole_chat_answer() -> None:
    body = Answer("chat", "chatcmpl-1", "m", 5).whole("hello", "stop", Usage(3, 2))
    assert body == {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "m",
        "choices": [{
            "index": 0, "logprobs": None, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"},
        }],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_whole_text_answer() -> None:
    body = Answer("text", "cmpl-1", "m", 5).whole("hello", "length", Usage(3, 2))
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "logprobs": None, "finish_reason": "length", "text": "hello"}]


def test_a_chat_stream_names_the_role_first_and_the_reason_last() -> None:
    answer = Answer("chat", "c", "m", 5)
    first, middle, last = event(answer.opening()), event(answer.piece("hé", None)), event(answer.piece("", "stop"))
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert middle["choices"][0] == {"index": 0, "delta": {"content": "hé"}, "logprobs": None, "finish_reason": None}
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert "usage" not in first
    assert DONE == b"data: [DONE]\n\n"


def test_usage_in_a_stream_comes_in_a_chunk_without_choices() -> None:
    answer = Answer("text", "c", "m", 5, include_usage=True)
    assert answer.opening() == b""
    assert event(answer.piece("a", None))["usage"] is None
    last = event(answer.usage_chunk(Usage(1, 2)))
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 3


def test_an_adapter_s_card_names_its_parent_and_its_files() -> None:
    card = model_card("a@1", created=1, root="/x", parent="base", max_model_len=None)
    assert (card["id"], card["root"], card["parent"], card["object"]) == ("a@1", "/x", "base", "model")
