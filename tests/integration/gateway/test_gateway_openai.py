"""The stock `openai` client works against the gateway, its errors included."""

from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam

from tests.integration.gateway.conftest import Stack
from tests.support.gateway_process import server_log

pytestmark = pytest.mark.integration

TOOLS: list[ChatCompletionFunctionToolParam] = [
    {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}
]


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.gateway.url}/v1", api_key="sk-test", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, order: str, model: str = "plain") -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": order}], user="u")


def test_chat(client: openai.OpenAI) -> None:
    answer = ask(client, "say hello you")
    assert answer.choices[0].message.content == "hello you"
    assert answer.model == "plain@1"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="plain", prompt="say a b").choices[0].text == "a b"


def test_a_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="plain", messages=[{"role": "user", "content": "say a b c"}], stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices] == ["", "a", "b", "c"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 8


def test_a_stream_of_completions(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="plain", prompt="say a b", stream=True))
    assert [chunk.choices[0].text for chunk in chunks] == ["", "a", "b"]


def test_tools_pass_through(client: openai.OpenAI, stack: Stack) -> None:
    client.chat.completions.create(
        model="plain", messages=[{"role": "user", "content": "say a"}], tools=TOOLS,
        tool_choice="auto", extra_headers={"x-request-id": "with-tools"},
    )
    asked = [r for r in server_log(stack.one)["requests"] if r["headers"].get("x-request-id") == "with-tools"]
    assert (asked[0]["body"]["tools"], asked[0]["body"]["tool_choice"]) == (TOOLS, "auto")


def test_models(client: openai.OpenAI) -> None:
    assert "plain" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("order", "model", "kind", "status"),
    [
        ("say a", "nope", openai.NotFoundError, 404),
        ("status 400", "plain", openai.BadRequestError, 400),
        ("status 422", "plain", openai.UnprocessableEntityError, 422),
        ("status 429", "plain", openai.RateLimitError, 429),
        ("status 500", "plain", openai.InternalServerError, 500),
        ("break", "plain", openai.InternalServerError, 502),
        ("say a", "down", openai.InternalServerError, 503),
    ],
)
def test_errors_are_the_clients_own_classes(
    client: openai.OpenAI, order: str, model: str, kind: type[openai.APIStatusError], status: int
) -> None:
    with pytest.raises(kind) as caught:
        ask(client, order, model)
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]


def test_a_stream_that_breaks_raises(client: openai.OpenAI) -> None:
    """The error event is the client's exception: half an answer cannot be taken for a whole one."""
    stream = client.chat.completions.create(
        model="plain", messages=[{"role": "user", "content": "break a b"}], stream=True
    )
    with pytest.raises(openai.APIError, match="broke off its answer"):
        list(stream)
