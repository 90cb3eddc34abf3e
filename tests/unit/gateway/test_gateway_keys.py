"""Who may come in, how often, and what happens when the file of keys changes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.gateway import key_file
from services.gateway.bucket import TokenBucket
from services.gateway.doorkeeper import ANYONE, Doorkeeper, KeyMetrics, admit_anyone
from services.gateway.errors import ApiError
from services.gateway.key_file import KeyFile
from shared.api_keys import ApiKey, KeyRing, entry_yaml, new_key
from shared.errors import InvalidInputError
from tests.support.wait import eventually

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def made(key_id: str = "a", rpm: float = 60, burst: int = 2, expires: datetime | None = None) -> tuple[str, ApiKey]:
    return new_key(key_id, routes=frozenset({"r"}), requests_per_minute=rpm, burst=burst, expires=expires)


class Door:
    """A doorkeeper with a clock of its own."""

    def __init__(self, *entries: ApiKey) -> None:
        self.seconds, self.now = 100.0, NOON
        self.registry = CollectorRegistry()
        self.keeper = Doorkeeper(KeyMetrics(self.registry), clock=lambda: self.seconds, now=lambda: self.now)
        self.use(*entries)

    def use(self, *entries: ApiKey) -> None:
        self.keeper.use(KeyRing({entry.id: entry for entry in entries}))

    def ask(self, key: str, scheme: str = "Bearer") -> ApiError | None:
        try:
            self.keeper.admit({b"authorization": f"{scheme} {key}".encode()})
        except ApiError as error:
            return error
        return None

    def count(self, key: str, outcome: str) -> float | None:
        return self.registry.get_sample_value(
            "tuneloop_gateway_api_key_requests_total", {"key": key, "outcome": outcome}
        )


def test_a_key_lets_in_with_its_id_and_routes() -> None:
    key, entry = made()
    caller = Door(entry).keeper.admit({b"authorization": f"bearer  {key} ".encode()})
    assert (caller.id, caller.may_use("r"), caller.may_use("other")) == ("a", True, False)
    assert (admit_anyone({}), ANYONE.id, ANYONE.may_use("other")) == (ANYONE, "", True)


def test_without_a_good_key_it_is_401() -> None:
    key, entry = made(expires=NOON + timedelta(hours=1))
    stranger, _ = made()
    door = Door(entry)
    with pytest.raises(ApiError, match="wants an API key") as caught:
        door.keeper.admit({})
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    for wrong in (door.ask(stranger), door.ask("sk-123"), door.ask(key, scheme="Basic")):
        assert wrong is not None
        assert (wrong.status, wrong.code, wrong.type_) == (401, "invalid_api_key", "invalid_request_error")
    assert door.ask(key) is None
    door.now += timedelta(hours=1)
    expired = door.ask(key)
    assert expired is not None
    assert (expired.status, "has expired" in str(expired)) == (401, True)
    assert [door.count("a", outcome) for outcome in ("admitted", "expired", "rate_limited")] == [1, 1, 0]


def test_a_key_that_was_good_is_refused_as_soon_as_it_is_replaced_or_gone() -> None:
    old, entry = made()
    new, replaced = made()
    door = Door(entry)
    assert (door.ask(old), door.ask(old)) == (None, None)
    door.use(replaced)
    refused = door.ask(old)
    assert refused is not None
    assert refused.code == "invalid_api_key"
    door.seconds += 60
    assert door.ask(new) is None
    door.use()
    assert door.ask(new) is not None


def test_many_spellings_of_a_good_key_all_let_in() -> None:
    key, entry = made(burst=100)
    door = Door(entry)
    assert [door.ask(f"{' ' * spaces}{key}") for spaces in range(40)] == [None] * 40
    assert door.count("a", "admitted") == 40


def test_too_often_is_429_with_the_time_to_wait_and_each_key_has_its_own() -> None:
    (one, first), (two, second) = made("a", rpm=6, burst=2), made("b", rpm=6, burst=1)
    door = Door(first, second)
    assert (door.ask(one), door.ask(one)) == (None, None)
    refused = door.ask(one)
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after) == (429, "rate_limit_exceeded", 10)
    assert door.ask(two) is None
    door.seconds += 9.9
    assert door.ask(one) is not None
    door.seconds += 0.1
    assert door.ask(one) is None
    assert (door.count("a", "admitted"), door.count("a", "rate_limited"), door.count("b", "admitted")) == (3, 2, 1)


def test_other_keys_take_over_at_once_and_a_key_that_stays_has_spent_what_it_has_spent() -> None:
    (one, first), (two, second) = made("a", rpm=6, burst=1), made("b")
    door = Door(first)
    assert door.ask(one) is None
    door.use(first, second)
    refused = door.ask(one)
    assert refused is not None
    assert refused.status == 429, "a new file is no new allowance"
    assert door.ask(two) is None
    door.use(second)
    refused = door.ask(one)
    assert refused is not None
    assert refused.status == 401
    assert (door.count("a", "admitted"), door.count("b", "admitted")) == (None, 1), "series go with their keys"


@given(
    st.lists(st.floats(min_value=0, max_value=5), max_size=200),
    st.floats(min_value=0.1, max_value=50), st.integers(min_value=1, max_value=20),
)
def test_a_bucket_never_gives_more_than_burst_and_rate_allow(steps: list[float], rate: float, burst: int) -> None:
    bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0
    for step in steps:
        now += step
        wait = bucket.take(now)
        taken += wait == 0
        assert taken <= burst + rate * now + 1e-6
        assert 0 <= wait <= 1 / rate + 1e-6


def test_a_bucket_waits_as_long_as_it_says_and_no_clock_fills_it_backwards() -> None:
    bucket = TokenBucket(0.5, 1, 10.0)
    assert bucket.take(10.0) == 0
    wait = bucket.take(10.5)
    assert wait == pytest.approx(1.5)
    assert bucket.take(10.4) >= wait
    assert bucket.take(10.5 + wait) == 0


class File:
    """A file of keys that is followed, without a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rings: list[KeyRing] = []
        self.states: list[bool] = []
        self.follower = KeyFile(path, self.rings.append, self.states.append)

    def write(self, text: str) -> None:
        """As Kubernetes does: a new file, and then a name for it."""
        draft = self.path.with_name("draft")
        draft.write_text(text)
        draft.replace(self.path)

    @property
    def ids(self) -> list[list[str]]:
        return [sorted(ring.keys) for ring in self.rings]


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "keys.yaml")


def listed(*ids: str) -> str:
    return "keys:\n" + "".join(entry_yaml(made(key_id)[1]) for key_id in ids)


def test_a_changed_file_is_read_and_an_unchanged_one_is_not(file: File) -> None:
    file.write(listed("a"))
    assert sorted(file.follower.load().keys) == ["a"]
    file.follower.check()
    assert file.ids == []
    file.write(listed("a", "b"))
    file.follower.check()
    file.follower.check()
    assert file.ids == [["a", "b"]]


@pytest.mark.parametrize("broken", ["keys: [", "keys: 7", "\ufeff\x00", ""])
def test_a_broken_file_leaves_the_last_good_keys_until_it_is_mended(file: File, broken: str) -> None:
    file.write(listed("a"))
    file.follower.load()
    file.write(broken)
    file.follower.check()
    file.follower.check()
    assert (file.ids, file.states) == ([], [True, False]), "said once, and not at each look"
    file.write(listed("b"))
    file.follower.check()
    assert (file.ids, file.states) == ([["b"]], [True, False, True])


def test_a_file_that_vanishes_leaves_the_last_good_keys(file: File) -> None:
    file.write(listed("a"))
    file.follower.load()
    file.path.unlink()
    file.follower.check()
    file.follower.check()
    assert (file.ids, file.states) == ([], [True, False])
    file.write(listed("c"))
    file.follower.check()
    assert file.ids == [["c"]]


def test_there_is_no_start_without_a_good_file(file: File) -> None:
    with pytest.raises(InvalidInputError, match=r"keys\.yaml: cannot be read: No such file"):
        file.follower.load()
    file.write("keys: [")
    with pytest.raises(InvalidInputError, match="not valid YAML"):
        file.follower.load()


def test_a_surprise_does_not_end_the_following(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "_CHECK_SECONDS", 0.01)
    file, seen, states = File(tmp_path / "keys.yaml"), list[list[str]](), list[bool]()

    def take_up(ring: KeyRing) -> None:
        seen.append(sorted(ring.keys))
        if len(seen) == 1:
            raise ZeroDivisionError

    file.write(listed("a"))
    follower = KeyFile(file.path, take_up, states.append)
    follower.load()
    follower.start()
    file.write(listed("a", "b"))
    eventually(lambda: len(seen) == 2)
    follower.stop(5)
    assert seen == [["a", "b"], ["a", "b"]]
    assert states == [True, True, False, True]
