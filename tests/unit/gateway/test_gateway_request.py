"""Reading requests: every mistake is named, and the unit is found in its order."""

import json

import pytest

from services.gateway.errors import ApiError, no_table, overloaded, too_large, unknown_model
from services.gateway.exchange import outcome_of
from services.gateway.request import parse, request_id, unit_of


def test_a_body_keeps_everything_but_the_model() -> None:
    messages = [{"role": "user", "content": "h\u00e9llo \U0001f600"}]
    document = {"model": "intents", "messages": messages, "temperature": 0.1, "x": None}
    sent = json.loads(parse(json.dumps(document).encode()).body_for("intents@3"))
    assert sent == {**document, "model": "intents@3"}


@pytest.mark.parametrize(
    "value",
    [2**70, -(2**63) - 1, 12345678901234567890, 1e300, 0.1, "\ud800", "\udc00x", "0" * 40, {"a": [None, True]}, 1e-9],
)
def test_values_are_sent_on_as_they_are(value: object) -> None:
    """Also where the fast parser would change or refuse them."""
    raw = json.dumps({"model": "intents", "seed": value}).encode()
    assert json.loads(parse(raw).body_for("intents@3")) == {"model": "intents@3", "seed": value}


def test_other_encodings_of_json_are_read() -> None:
    assert parse('{"model": "é"}'.encode("utf-16")).route == "é"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "invalid_json", "line 1 column 1"),
        (b'{"model": "a",}', "invalid_json", "line 1"),
        (b"\xff\xfe\xfd", "invalid_json", "codec"),
        (b"[1]", "invalid_json", "JSON list"),
        (b'{"model": "a", "temperature": NaN}', "invalid_json", "NaN is not JSON"),
        (b'{"model": "a", "temperature": 1e999}', "invalid_json", "too large a number"),
        (b"[" * 200_000, "invalid_json", "nested too deeply"),
        (b"{}", "invalid_request", "name of a route"),
        (b'{"model": 3}', "invalid_request", "name of a route"),
        (b'{"model": "a", "user": 3}', "invalid_request", "user: must be a string"),
    ],
)
def test_a_bad_body_is_400_and_says_where(body: bytes, code: str, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        parse(body)
    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    ("headers", "user", "expected"),
    [
        ({b"x-tuneloop-unit": b" u1 ", b"authorization": b"Bearer k"}, "anna", "u1"),
        ({b"authorization": b"Bearer k"}, "anna", "anna"),
        ({b"authorization": b"bearer  k"}, "", "k"),
        ({b"authorization": b"Basic eA=="}, "", ""),
        ({b"x-tuneloop-unit": b""}, "", ""),
        ({b"x-tuneloop-unit": "zoë".encode()}, "", "zoë"),
    ],
)
def test_the_unit(headers: dict[bytes, bytes], user: str, expected: str) -> None:
    assert unit_of(headers, user) == expected


def test_request_ids_are_taken_over_only_where_sane() -> None:
    assert request_id({b"x-request-id": b"abc-1"}) == "abc-1"
    assert len(request_id({b"x-request-id": b"a b"})) == 32
    assert len(request_id({b"x-request-id": b"x" * 129})) == 32
    assert request_id({}) != request_id({})


def test_errors_are_in_the_openai_format() -> None:
    error = json.loads(unknown_model("nope", ["b", "a"]).body())["error"]
    assert error == {
        "message": "no route is named 'nope'; routes: a, b", "type": "invalid_request_error", "param": "model",
        "code": "model_not_found",
    }
    assert json.loads(no_table().body())["error"]["type"] == "server_error"
    assert (too_large(10).status, overloaded(1).status, overloaded(1).retry_after) == (413, 503, 1)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (400, "rejected"), (422, "rejected"), (401, "error"), (429, "error"), (500, "error"), (503, "error"),
     (302, "error")],
)
def test_the_outcome_of_a_status(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome
