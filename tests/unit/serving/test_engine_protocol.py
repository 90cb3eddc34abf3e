"""What the engine takes from clients, and the words in which it refuses the rest."""

from typing import Any

import pytest

from services.serving.engine.errors import ApiError, overloaded
from services.serving.engine.protocol import ChatRequest, CompletionRequest, parse_sampling

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refusal(body: Any, kind: type[ChatRequest] | type[CompletionRequest] = ChatRequest) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_sampling(kind, body)
    assert caught.value.status == 400
    return caught.value


def test_a_plain_request_gets_openai_defaults() -> None:
    request = parse_sampling(ChatRequest, CHAT)
    assert (request.temperature, request.top_p, request.stop, request.stream) == (1.0, 1.0, [], False)
    assert request.token_limit is None
    assert parse_sampling(CompletionRequest, {"model": "m", "prompt": "x"}).token_limit == 16


def test_max_completion_tokens_wins_over_the_old_name() -> None:
    assert parse_sampling(ChatRequest, {**CHAT, "max_tokens": 3, "max_completion_tokens": 5}).token_limit == 5


def test_one_stop_string_or_several() -> None:
    assert parse_sampling(ChatRequest, {**CHAT, "stop": "x"}).stop == ["x"]
    assert parse_sampling(ChatRequest, {**CHAT, "stop": ["x", "y"]}).stop == ["x", "y"]
    assert refusal({**CHAT, "stop": ""}).param == "stop"


def test_content_may_be_a_list_of_texts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_sampling(ChatRequest, {"model": "m", "messages": [{"role": "user", "content": parts}]})
    assert request.messages[0].text() == "ab"


def test_values_that_ask_for_nothing_are_accepted() -> None:
    unused = {
        "n": 1, "tools": [], "logprobs": False, "response_format": {"type": "text"}, "frequency_penalty": 0,
        "logit_bias": None, "user": "u1", "top_k": -1, "presence_penalty": 0.0, "metadata": {"a": "b"},
    }
    assert parse_sampling(ChatRequest, {**CHAT, **unused}) == parse_sampling(ChatRequest, CHAT)


@pytest.mark.parametrize(("name", "value"), [
    ("n", 2), ("n", True), ("tools", [{"type": "function"}]), ("logprobs", True), ("top_logprobs", 3),
    ("response_format", {"type": "json_object"}), ("frequency_penalty", 0.5), ("logit_bias", {"5": 1}), ("top_k", 40),
    ("min_p", 0.1), ("echo", True), ("best_of", 2), ("ignore_eos", True), ("guided_json", {}), ("made_up", 1),
])
def test_what_it_cannot_do_is_refused_by_name(name: str, value: Any) -> None:
    error = refusal({**CHAT, name: value})
    assert error.param == name
    assert name in error.message


@pytest.mark.parametrize(("change", "param"), [
    ({"temperature": 3}, "temperature"), ({"top_p": 0}, "top_p"), ({"max_tokens": 0}, "max_tokens"),
    ({"messages": []}, "messages"), ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"stream_options": {"other": 1}}, "stream_options.other"), ({"model": 5}, "model"), ({"seed": -1}, "seed"),
])
def test_a_wrong_value_is_refused_with_its_place(change: dict[str, Any], param: str) -> None:
    assert refusal({**CHAT, **change}).param == param


def test_a_body_that_is_no_object_is_refused() -> None:
    assert refusal([1]).param == "body"


def test_a_completion_takes_one_prompt() -> None:
    assert parse_sampling(CompletionRequest, {"model": "m", "prompt": ["x"]}).prompt == "x"
    assert parse_sampling(CompletionRequest, {"model": "m", "prompt": [1, 2]}).prompt == [1, 2]
    assert "one prompt" in refusal({"model": "m", "prompt": ["x", "y"]}, CompletionRequest).message


def test_errors_are_nested_as_vllm_has_them() -> None:
    assert overloaded("busy").body() == {
        "error": {"message": "busy", "type": "ServiceUnavailableError", "param": None, "code": 503}
    }
