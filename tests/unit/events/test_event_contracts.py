"""The event contracts: examples stay readable forever, generated files are current, breaking changes are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.events import MalformedEventError, UnknownEventTypeError, decode, encode, payload_types
from shared.events.compat import incompatibilities
from shared.events.generate import outputs, problems

EXAMPLES = sorted((Path(__file__).parents[3] / "shared" / "events" / "examples").glob("*.json"))


def record(path: Path) -> tuple[bytes, dict[str, bytes], bytes]:
    example = json.loads(path.read_text())
    headers = {name: value.encode() for name, value in example["headers"].items()}
    return json.dumps(example["value"]).encode(), headers, example["key"].encode()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_decodes_and_encodes_to_the_same_fact(path: Path) -> None:
    value, headers, key = record(path)
    event = decode(value, headers, key)
    again = encode(event)
    assert decode(again.value, again.headers, None) == event
    assert again.key == key.decode() == event.subject
    assert event.sequence == 1
    assert event.traceparent


def test_every_type_has_an_example() -> None:
    assert {path.stem for path in EXAMPLES} >= set(payload_types())


def test_generated_files_are_current() -> None:
    stale = [str(path) for path, content in outputs().items() if not path.exists() or path.read_text() != content]
    assert stale == [], "run `make generate`"
    assert problems(outputs()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_unknown_fields_are_ignored_at_every_depth(path: Path) -> None:
    value, headers, key = record(path)

    def extend(node: Any) -> Any:
        if isinstance(node, dict):
            # Maps of metrics have no fixed fields, so a new field there would be data.
            if all(isinstance(child, float | int) for child in node.values()):
                return node
            return {name: extend(child) for name, child in node.items()} | {"added_later": 1}
        return [extend(child) for child in node] if isinstance(node, list) else node

    assert decode(json.dumps(extend(json.loads(value))).encode(), headers, key) == decode(value, headers, key)


@pytest.mark.parametrize(
    ("value", "changed", "expected"),
    [
        (b"\xff\xfe", {}, "not a JSON object"),
        (b"not json", {}, "not a JSON object"),
        (b"{}", {}, "Field required"),
        (b"[1]", {}, "not a JSON object"),
        (None, {}, "not a JSON object"),
        (b"{}", {"ce_specversion": b""}, "not a CloudEvent"),
        (b"{}", {"ce_id": b""}, "not a CloudEvent"),
    ],
)
def test_bad_records_say_what_is_wrong(value: bytes | None, changed: dict[str, bytes], expected: str) -> None:
    _, headers, key = record(next(path for path in EXAMPLES if path.stem == "dataset.rejected.v1"))
    with pytest.raises(MalformedEventError, match=expected):
        decode(value, headers | changed, key)


def test_a_record_without_headers_is_malformed() -> None:
    with pytest.raises(MalformedEventError, match="not a CloudEvent"):
        decode(b"{}", {}, None)


def test_a_foreign_type_is_told_apart_from_a_bad_record() -> None:
    value, headers, key = record(EXAMPLES[0])
    with pytest.raises(UnknownEventTypeError, match=r"com\.example\.thing"):
        decode(value, headers | {"ce_type": b"com.example.thing"}, key)


BASE: dict[str, Any] = {"type": "object", "required": ["a"],
        "properties": {"a": {"type": "string"}, "b": {"$ref": "#/$defs/B"}},
        "$defs": {"B": {"type": "object", "properties": {"c": {"type": "integer"}}}}}


def changed(**changes: Any) -> dict[str, Any]:
    return BASE | changes


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (changed(properties={"a": {"type": "string"}}), "b: removed"),
        (changed(required=["a", "b"]), "b: newly required"),
        (changed(properties={"a": {"type": "integer"}, "b": {"$ref": "#/$defs/B"}}), "a: type was 'string'"),
        (changed(**{"$defs": {"B": {"type": "object", "properties": {}}}}), "b.c: removed"),
    ],
)
def test_a_breaking_change_is_named(new: dict[str, Any], reason: str) -> None:
    assert any(reason in problem for problem in incompatibilities(BASE, new))


def test_an_added_optional_field_is_compatible() -> None:
    assert incompatibilities(BASE, changed(properties=BASE["properties"] | {"d": {"type": "string"}})) == []
    assert incompatibilities(BASE, BASE) == []


def test_allowed_values_may_become_more_also_where_there_was_one() -> None:
    def field(**shape: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"method": {"type": "string", **shape}}}

    assert incompatibilities(field(const="a"), field(enum=["a", "b"])) == []
    assert incompatibilities(field(enum=["a", "b"]), field(enum=["c", "b", "a"])) == []
    assert incompatibilities(field(enum=["a", "b"]), field(const="a"))
    assert incompatibilities(field(const="a"), field(const="b"))
    assert incompatibilities(field(const="a"), field())
