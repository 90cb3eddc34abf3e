"""The agent's decisions: by example, and under random histories of a model server."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, rule

from services.serving.decide import (
    Action,
    Confirm,
    Drain,
    Forget,
    Gone,
    Hold,
    Known,
    Limits,
    Load,
    Refuse,
    State,
    Unload,
    Wanted,
    backoff,
    decide,
    is_restart,
    turn,
    unused_folders,
    when_named,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(adapters=3, drain=timedelta(seconds=60))
NAMES = ("a@1", "a@2", "b@1", "b@2", "c@1")


def wanted(name: str, digest: str = "d1") -> Wanted:
    return Wanted(name, f"s3://bucket/adapters/{digest}/", digest, f"/cache/{name}.{digest}", "loop", "cause")


def known(name: str, state: State, *, digest: str = "d1", due: float | None = None) -> Known:
    return Known(name, digest, state, due_at=None if due is None else NOW + timedelta(seconds=due))


def actions(
    want: Sequence[Wanted] = (), listed: dict[str, str] | None = None, knows: Sequence[Known] = ()
) -> list[Action]:
    return decide(
        {item.name: item for item in want}, listed or {}, {item.name: item for item in knows}, now=NOW, limits=LIMITS
    )


def test_a_wanted_adapter_is_loaded_and_then_confirmed_once() -> None:
    one = wanted("a@1")
    assert actions([one]) == [Load(one)]
    assert actions([one], {"a@1": one.root}) == [Confirm(one)]
    assert actions([one], {"a@1": one.root}, [known("a@1", "loaded")]) == []


def test_only_one_load_follows_a_look() -> None:
    assert actions([wanted("a@1"), wanted("b@1")]) == [Load(wanted("a@1"))]


def test_an_adapter_that_vanished_is_loaded_again() -> None:
    assert actions([wanted("a@1")], {}, [known("a@1", "loaded")]) == [Load(wanted("a@1"))]


def test_a_failure_waits_and_a_permanent_one_stays() -> None:
    assert actions([wanted("a@1")], {}, [known("a@1", "pending", due=5)]) == []
    assert actions([wanted("a@1")], {}, [known("a@1", "pending", due=0)]) == [Load(wanted("a@1"))]
    assert actions([wanted("a@1")], {}, [known("a@1", "failed")]) == []
    # The failure was about other weights.
    assert actions([wanted("a@1", "d2")], {}, [known("a@1", "failed")]) == [Load(wanted("a@1", "d2"))]


def test_replicas_take_turns_with_a_new_adapter_but_not_with_one_that_must_come_back() -> None:
    one, window = wanted("a@1"), timedelta(seconds=30)
    limits = Limits(adapters=3, drain=timedelta(0), replica="r1", stagger=window)
    other = {"b@1": wanted("b@1").root}
    both = {"a@1": one, "b@1": wanted("b@1")}
    knows = {"b@1": known("b@1", "loaded")}
    due = NOW + turn("r1", "a@1", window)
    assert NOW < due < NOW + window
    assert decide(both, other, knows, now=NOW, limits=limits) == [Hold(one, due)]
    held = knows | {"a@1": Known("a@1", "d1", "pending", due_at=due)}
    assert decide(both, other, held, now=NOW, limits=limits) == []
    assert decide(both, other, held, now=due, limits=limits) == [Load(one)]
    # A server without adapters has no stream that a load could stop; nor does it wait for what it had before.
    assert decide({"a@1": one}, {}, {}, now=NOW, limits=limits) == [Load(one)]
    assert decide(both, other, knows | {"a@1": known("a@1", "pending")}, now=NOW, limits=limits) == [Load(one)]


def test_turns_are_spread_over_the_window() -> None:
    window = timedelta(seconds=100)
    turns = sorted(turn(f"replica-{number}", "a@1", window).total_seconds() for number in range(200))
    assert 0 <= turns[0] < 5
    assert 95 < turns[-1] < 100
    assert 40 < turns[100] < 60
    assert turn("r", "a@1", timedelta(0)) == timedelta(0)


def test_a_download_belongs_to_the_folder_that_it_becomes() -> None:
    present = ["/cache/.a@1.d1.x7.partial", "/cache/.b@1.d1.x8.partial", "/cache/.a@1.d10.x9.partial", "/cache/a@1.d1"]
    unused = unused_folders(present, wanted=[wanted("a@1")], listed=[], known=[])
    assert unused == ["/cache/.a@1.d10.x9.partial", "/cache/.b@1.d1.x8.partial"]
    assert unused_folders(present, wanted=[], listed=[], known=[]) == sorted(present)


def test_a_name_that_is_listed_with_other_weights_is_refused_for_good() -> None:
    (action,) = actions([wanted("a@1", "d2")], {"a@1": "/cache/a@1.d1"}, [known("a@1", "loaded")])
    assert isinstance(action, Refuse)
    assert action.permanent
    assert "/cache/a@1.d1" in action.reason
    assert actions([wanted("a@1", "d2")], {"a@1": "/cache/a@1.d1"}, [known("a@1", "failed", digest="d2")]) == []


def test_a_full_server_refuses_for_now() -> None:
    listed = {"x@1": "/x", "x@2": "/y", "x@3": "/z"}
    refused = [a for a in actions([wanted("a@1")], listed) if isinstance(a, Refuse)]
    assert [(item.wanted.name, item.permanent) for item in refused] == [("a@1", False)]


def test_what_nobody_wants_drains_before_it_is_unloaded_and_its_files_outlive_it() -> None:
    root = wanted("a@1").root
    until = NOW + LIMITS.drain
    assert actions([], {"a@1": root}, [known("a@1", "loaded")]) == [Drain("a@1", root, until)]
    assert actions([], {"a@1": root}, [known("a@1", "draining", due=1)]) == []
    assert actions([], {"a@1": root}, [known("a@1", "draining", due=0)]) == [Unload("a@1")]
    assert actions([], {}, [known("a@1", "draining", due=0)]) == [Gone("a@1", until)]
    assert actions([], {}, [known("a@1", "unloaded", due=1)]) == []
    assert actions([], {}, [known("a@1", "unloaded", due=0)]) == [Forget("a@1")]


def test_a_draining_adapter_that_is_wanted_again_stays() -> None:
    one = wanted("a@1")
    assert actions([one], {"a@1": one.root}, [known("a@1", "draining", due=-5)]) == [Confirm(one)]


def test_what_the_agent_never_heard_of_drains_too() -> None:
    assert actions([], {"by-hand": "/elsewhere"}) == [Drain("by-hand", "/elsewhere", NOW + LIMITS.drain)]


def test_an_adapter_that_was_never_loaded_is_just_forgotten() -> None:
    assert actions([], {}, [known("a@1", "failed"), known("b@1", "pending", due=5)]) == [Forget("a@1"), Forget("b@1")]


def test_a_restart_is_seen_by_the_start_time_or_without_one_by_what_is_missing() -> None:
    assert is_restart(seen=None, started="1.0", was_reachable=False, lost=False)
    assert is_restart(seen="1.0", started="2.0", was_reachable=True, lost=False)
    assert not is_restart(seen="1.0", started="1.0", was_reachable=False, lost=True)
    assert is_restart(seen="", started="", was_reachable=False, lost=False)
    assert is_restart(seen="", started="", was_reachable=True, lost=True)
    assert not is_restart(seen="", started="", was_reachable=True, lost=False)


def test_backoff_doubles_up_to_a_minute() -> None:
    assert [backoff(n).total_seconds() for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]


@given(st.sets(st.sampled_from("pqrstu")), st.sets(st.sampled_from("pqrstu")), st.sets(st.sampled_from("pqrstu")))
def test_a_folder_that_is_listed_or_remembered_is_never_deleted(
    present: set[str], listed: set[str], remembered: set[str]
) -> None:
    unused = unused_folders(present, wanted=[wanted("a@1")], listed=listed, known=remembered)
    assert set(unused) == present - listed - remembered


class ServerHistory(RuleBasedStateMachine):
    """A model server that crashes and refuses, a route table that changes at any moment, and the agent's rules."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.wanted: dict[str, Wanted] = {}
        self.left_at: dict[str, datetime] = {}
        self.listed: dict[str, str] = {}
        self.known: dict[str, Known] = {}

    @rule(names=st.sets(st.sampled_from(NAMES), max_size=LIMITS.adapters))
    def route_changes(self, names: set[str]) -> None:
        for name in self.wanted.keys() - names:
            self.left_at[name] = self.now
        self.wanted = {name: wanted(name) for name in names}
        for name in names & self.known.keys():
            item = self.known[name]
            if (state := when_named(item.state)) != item.state:
                self.remember(name, state, None)

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def server_crashes(self) -> None:
        self.listed = {}
        self.known = {
            name: Known(name, item.digest, "pending") if item.state in ("loaded", "pending") else item
            for name, item in self.known.items()
        }

    @rule(name=st.sampled_from(NAMES))
    def somebody_loads_by_hand(self, name: str) -> None:
        if len(self.listed) < LIMITS.adapters:
            self.listed.setdefault(name, wanted(name).root)

    @rule(fails=st.booleans())
    def agent_looks(self, fails: bool) -> None:
        self.look(fails=fails)

    def act(self, action: Action, fails: bool) -> None:
        match action:
            case Load(item):
                assert item.name not in self.listed, "a name was loaded twice"
                assert len(self.listed) < LIMITS.adapters, "more adapters than the server takes"
                if fails:
                    self.remember(item.name, "pending", self.now + timedelta(seconds=1))
                else:
                    self.listed[item.name] = item.root
                    self.remember(item.name, "loaded", None)
            case Confirm(item):
                assert self.listed[item.name] == item.root
                self.remember(item.name, "loaded", None)
            case Refuse(item, _, permanent):
                self.remember(item.name, "failed" if permanent else "pending", self.now + timedelta(seconds=1))
            case Drain(name, _, until):
                assert name not in self.wanted
                self.remember(name, "draining", until)
            case Unload(name):
                assert name not in self.wanted, "something wanted was unloaded"
                assert self.now - self.left_at.get(name, NOW) >= LIMITS.drain, "unloaded before its requests had ended"
                del self.listed[name]
            case Gone(name, until):
                assert name not in self.listed
                self.remember(name, "unloaded", until)
            case Forget(name):
                assert name not in self.listed
                del self.known[name]

    def remember(self, name: str, state: State, due: datetime | None) -> None:
        self.known[name] = Known(name, "d1", state, due_at=due)

    def teardown(self) -> None:
        """Looking long enough makes the server have what is wanted, and the agent remember no more than that."""
        for _ in range(20):
            self.now += timedelta(seconds=61)
            self.look(fails=False)
        assert self.listed == {name: item.root for name, item in self.wanted.items()}
        assert self.known.keys() == self.wanted.keys()

    def look(self, *, fails: bool) -> None:
        for action in decide(self.wanted, dict(self.listed), self.known, now=self.now, limits=LIMITS):
            self.act(action, fails)


TestServerHistory = ServerHistory.TestCase
