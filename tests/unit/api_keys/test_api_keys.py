"""Keys, their file, and the command that makes them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from services.cli.app import build_app
from shared.api_keys import ApiKey, entry_yaml, new_key, parse_keys
from shared.errors import InvalidInputError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make(key_id: str = "app7", **changes: object) -> tuple[str, ApiKey]:
    fields: dict[str, object] = {"routes": frozenset({"intents"}), "requests_per_minute": 60, "burst": 6,
                                 "expires": None}
    return new_key(key_id, **{**fields, **changes})  # type: ignore[arg-type]


def test_a_key_is_found_by_itself_and_by_nothing_else() -> None:
    key, entry = make()
    other, _ = make()
    ring = parse_keys("keys:\n" + entry_yaml(entry), source="keys.yaml")
    assert ring.find(key.encode()) == entry
    for wrong in (other, key + "x", key[:-1], key.upper(), "", "tl_app7_", "tl_none_" + key.split("_", 2)[2], "\xff"):
        assert ring.find(wrong.encode()) is None
    assert key.startswith("tl_app7_")
    assert key.split("_", 2)[2] not in entry_yaml(entry), "the secret is in no file"


def test_the_entry_survives_the_file() -> None:
    _, entry = make(routes=frozenset({"b", "a"}), expires=NOON)
    text = "keys:\n" + entry_yaml(entry) + entry_yaml(make("second")[1])
    assert parse_keys(text, source="f").keys["app7"] == entry
    assert "routes:\n    - a\n    - b\n" in text
    assert "expires: '2026-01-01T12:00:00Z'" in text


def test_routes_and_time() -> None:
    _, some = make(expires=NOON)
    _, every = make(routes=frozenset({"*"}))
    assert (some.may_use("intents"), some.may_use("intent"), some.may_use("*")) == (True, False, False)
    assert every.may_use("whatever")
    assert (some.expired(NOON - timedelta(seconds=1)), some.expired(NOON)) == (False, True)
    assert not every.expired(NOON)


@pytest.mark.parametrize(("text", "message"), [
    ("", "the document"),
    ("keys: {}", "keys"),
    ("keys: [", "not valid YAML"),
    ("keyz: []", "keyz"),
    ("keys:\n- {id: a, sha256: secret, routes: [r], requestsPerMinute: 1, burst: 1}", "keys.0.sha256"),
    ("keys:\n- {id: a_b, sha256: %s, routes: [r], requestsPerMinute: 1, burst: 1}", "keys.0.id"),
    ("keys:\n- {id: a, sha256: %s, routes: [], requestsPerMinute: 1, burst: 1}", "keys.0.routes"),
    ("keys:\n- {id: a, sha256: %s, routes: ['*', r], requestsPerMinute: 1, burst: 1}", "'*' means all"),
    ("keys:\n- {id: a, sha256: %s, routes: ['r*'], requestsPerMinute: 1, burst: 1}", "keys.0.routes"),
    ("keys:\n- {id: a, sha256: %s, routes: [r], requestsPerMinute: 0, burst: 1}", "keys.0.requestsPerMinute"),
    ("keys:\n- {id: a, sha256: %s, routes: [r], requestsPerMinute: 1, burst: 1, expires: 2026-01-01}", "expires"),
    ("keys:\n- &a {id: a, sha256: %s, routes: [r], requestsPerMinute: 1, burst: 1}\n- *a", "more than one key"),
])
def test_a_wrong_file_is_refused_with_the_place_and_without_its_values(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_keys(text.replace("%s", "a" * 64), source="keys.yaml")
    assert str(caught.value).startswith("keys.yaml: ")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_command_prints_the_key_once_and_an_entry_that_lets_it_in() -> None:
    result = CliRunner().invoke(build_app(), ["keys", "new", "--route", "intents", "--rpm", "600", "--id", "app7"])
    assert result.exit_code == 0, result.output
    [key] = [line for line in result.output.splitlines() if line.startswith("tl_app7_")]
    file = "keys:\n" + result.output[result.output.index("  - id: app7"):]
    entry = parse_keys(file, source="output").find(key.encode())
    assert entry is not None
    assert entry.routes == frozenset({"intents"})
    assert (entry.requests_per_minute, entry.burst, entry.expires) == (600, 60, None)


def test_the_command_for_scripts_and_its_refusals() -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(build_app(), ["keys", "new", *arguments])
        return result.exit_code, result.output

    code, text = run("--route", "*", "--rpm", "5", "--burst", "2", "--expires-in", "90d", "-o", "json")
    answer = json.loads(text)
    assert (code, answer["entry"]["routes"], answer["entry"]["burst"]) == (0, ["*"], 2)
    assert datetime.fromisoformat(answer["entry"]["expires"]) > datetime.now(UTC) + timedelta(days=89)
    assert answer["key"].startswith(f"tl_{answer['entry']['id']}_")
    assert run("--route", "No Route", "--rpm", "5")[0] == 1
    assert run("--route", "r", "--rpm", "5", "--expires-in", "soon")[0] == 2
    assert run("--rpm", "5")[0] == 2
