"""Requests in OpenAI's form, checked: what the engine cannot do is refused by name, never silently ignored."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from services.serving.engine.errors import bad_request

# Accepted because they do not change the answer.
_IGNORED = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "request_id",
})

# Known to OpenAI's or vLLM's API, and only the values that mean "not used" are accepted.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "echo": (False,),
    "suffix": ("",),
    "top_k": (-1, 0),
    "min_p": (0,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "skip_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "verbosity": ("medium",),
}


class TextPart(BaseModel):
    """One part of a message's content; only text can be read."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream carries besides the text."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class SamplingRequest(BaseModel):
    """What both kinds of request share."""

    model_config = ConfigDict(extra="forbid")

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: list[str] = Field(default_factory=list, max_length=16)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if value is None:
            return []
        return [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty string cannot stop anything")
        return value

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(SamplingRequest):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(SamplingRequest):
    """``POST /v1/completions``; the prompt is one text or one list of token ids."""

    prompt: str | list[int]
    max_tokens: int | None = Field(default=16, ge=1)

    @field_validator("prompt", mode="before")
    @classmethod
    def _single_prompt(cls, value: Any) -> Any:
        if isinstance(value, list) and value and not isinstance(value[0], int):
            if len(value) > 1:
                raise ValueError("only one prompt per request is supported")
            return value[0]
        return value

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens


class LoadRequest(BaseModel):
    """``POST /v1/load_lora_adapter``."""

    lora_name: str = ""
    lora_path: str = ""
    load_inplace: bool = False


class UnloadRequest(BaseModel):
    """``POST /v1/unload_lora_adapter``."""

    lora_name: str = ""


R = TypeVar("R", bound=BaseModel)


def parse_sampling(kind: type[R], body: Any) -> R:
    """A generation request from a decoded JSON body.

    Raises:
        ApiError: 400 that names the parameter.
    """
    if isinstance(body, dict):
        body = _without_unused(body, kind)
    return parse(kind, body)


def parse(kind: type[R], body: Any) -> R:
    """Any request from a decoded JSON body; 400 names the first parameter that is wrong."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        if first["type"] == "extra_forbidden":
            raise bad_request(f"{where} is not supported by this engine", where) from error
        raise bad_request(f"{where}: {first['msg']}", where) from error


def _without_unused(body: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """`body` without nulls, ignored fields and fields that ask for nothing; refuses the ones that ask for something."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if value is None or name in _IGNORED:
            continue
        if name in _NEUTRAL and name not in kind.model_fields:
            if not any(_same(value, neutral) for neutral in _NEUTRAL[name]):
                raise bad_request(f"{name}={value!r} is not supported by this engine", name)
            continue
        kept[name] = value
    return kept


def _same(value: Any, neutral: Any) -> bool:
    # Python takes 1 for True; JSON does not.
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)
