"""The comparison of `make calibrate`, short and seeded: its traffic, its contenders, and the gate for all of them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.calibration.__main__ import HERE
from benchmarks.calibration.controller import Decisions, DisagreementError, agree, policy_for
from benchmarks.calibration.measure import Plan, measure
from benchmarks.calibration.report import with_measured
from benchmarks.calibration.results import (
    ARGO,
    BY_REQUEST,
    CONTENDERS,
    FLAGGER,
    OURS,
    Z_TEST,
    Answers,
    Cell,
    Counting,
    Results,
    bound,
    failed,
    gate,
    promises,
)
from benchmarks.calibration.rules import Increases, Rule, increases, repeated_mann_whitney, tuned
from benchmarks.calibration.scenarios import (
    EQUAL,
    LOOKS,
    MARGIN,
    MUCH_BETTER,
    NO_CHANGE,
    TENFOLD,
    THREEFOLD,
    TRAFFIC,
    Traffic,
)
from benchmarks.calibration.traffic import Counters, counters

KINDS = {traffic.name: traffic for traffic in TRAFFIC}
FLAGGERS = Rule("rate", window=5, threshold=0.05, failures=3, consecutive=False, no_data_fails=True)
ARGOS = Rule("difference", window=5, threshold=0.05, failures=3, consecutive=True, no_data_fails=False)


def drawn(traffic: Traffic, runs: int = 20, seed: int = 1) -> Counters:
    return counters(traffic, NO_CHANGE, runs, np.random.default_rng(seed))


# --- The gate -------------------------------------------------------------------------------------


def test_the_controller_passes_the_gate_and_a_test_that_peeks_fails_it() -> None:
    """A short version of the whole: independent requests, and everything at once."""
    plan = Plan(runs={NO_CHANGE.name: 40, MARGIN.name: 20, THREEFOLD.name: 20, TENFOLD.name: 10}, checked=1, power=0,
                traffic=("iid", "all", "sessions"), tests={EQUAL.name: 30, MUCH_BETTER.name: 10})
    short = measure(plan, {FLAGGER: FLAGGERS, ARGO: ARGOS})
    assert {cell.contender for cell in short.cells} == set(CONTENDERS)
    assert len(short.cells) == 8 * 3 * 4
    verdicts = promises(short)
    assert len(gate(short)) == 8
    assert {(verdict.bar, verdict.traffic) for verdict in verdicts[8:]} == {
        (bar, traffic) for traffic in ("iid", "sessions")
        for bar in ("false rollback, no users", "false winner", "false winner, no users")
    }
    assert failed(verdicts) == []
    assert all(one.share_candidate >= 0.7 for one in short.answers if one.hypothesis == MUCH_BETTER.name)
    by_request = {(verdict.bar, verdict.traffic) for verdict in failed(gate(short, BY_REQUEST))}
    assert ("false rollback", "sessions") in by_request
    peeking = {(verdict.bar, verdict.traffic) for verdict in failed(gate(short, Z_TEST))}
    assert peeking >= {("false rollback", "iid"), ("false rollback", "all"), ("false rollback", "sessions")}


def cell_of(hypothesis: str, at: list[int], promoted: int = 0, runs: int = 100, traffic: str = "iid") -> Cell:
    rolled_back = tuple(np.bincount(at, minlength=LOOKS + 1)[1:].tolist())
    return Cell(contender=OURS, traffic=traffic, hypothesis=hypothesis, runs=runs, rolled_back=rolled_back,
                promoted=promoted)


@pytest.mark.parametrize(("cell", "held"), [
    (cell_of(NO_CHANGE.name, [5] * 11), True), (cell_of(NO_CHANGE.name, [5] * 12), False),
    (cell_of(MARGIN.name, [], promoted=11), True), (cell_of(MARGIN.name, [], promoted=12), False),
    (cell_of(TENFOLD.name, [8] * 50 + [99] * 50), True), (cell_of(TENFOLD.name, [8] * 49 + [9] * 51), False),
    (cell_of(TENFOLD.name, [1] * 49), False),
    (cell_of(THREEFOLD.name, [120] * 90), True), (cell_of(THREEFOLD.name, [1] * 89), False),
])
def test_each_bar_is_where_it_should_be(cell: Cell, held: bool) -> None:
    results = Results(seed=1, checked=0, rules={}, machine="", seconds=0, cells=(cell,))
    assert [verdict.held for verdict in gate(results)] == [held]


def test_power_is_asked_of_independent_requests_only() -> None:
    cells = tuple(cell_of(name, [], traffic="clustered") for name in (TENFOLD.name, THREEFOLD.name))
    assert gate(Results(seed=1, checked=0, rules={}, machine="", seconds=0, cells=cells)) == []


@pytest.mark.parametrize(("counting", "traffic", "wrong", "expected"), [
    ("users", "clustered", 11, [True]), ("users", "clustered", 12, [False]),
    ("no users", "sessions", 12, [False]), ("no users", "clustered", 12, []),
])
def test_ab_tests_without_users_have_a_bar_where_nobody_comes_again(
    counting: Counting, traffic: str, wrong: int, expected: list[bool]
) -> None:
    found = Answers(counting=counting, traffic=traffic, hypothesis=EQUAL.name, runs=100, candidate=wrong - 2, stable=2)
    results = Results(seed=1, checked=0, rules={}, machine="", seconds=0, cells=(), answers=(found,))
    assert [verdict.held for verdict in promises(results)] == expected


def test_three_standard_errors_of_a_chance_of_five_percent() -> None:
    assert bound(0.05, 1900) == pytest.approx(0.05 + 3 * 0.005)


def test_the_report_says_what_was_measured() -> None:
    results = Results.model_validate_json((HERE / "results.json").read_text())
    text = (HERE / "README.md").read_text()
    assert with_measured(text, results) == text, "run: python -m benchmarks.calibration --draw"
    assert failed(promises(results)) == []


def test_a_report_without_a_place_for_it_is_an_error() -> None:
    results = Results(seed=1, checked=0, rules={}, machine="", seconds=0, cells=())
    with pytest.raises(ValueError, match=r"README\.md needs the lines"):
        with_measured("nothing", results)


def test_arrays_that_decide_otherwise_than_the_reducer_are_an_error() -> None:
    traffic = KINDS["iid"]
    wrong = Decisions(rolled_back=np.array([7]), safe=np.array([0]))
    with pytest.raises(DisagreementError, match="rollout 0: the reducer rolled back at look 0"):
        agree(drawn(traffic, runs=1), wrong, traffic, policy_for(traffic), [0])


# --- The traffic ----------------------------------------------------------------------------------


def test_traffic_has_the_rates_and_shares_that_it_should_have() -> None:
    bad, total = drawn(KINDS["iid"], runs=100).requests[:, -1].sum(axis=0).T
    assert total.sum() == pytest.approx(100 * LOOKS * 60 * 1.1, rel=0.01)  # the control arm is stable's, too
    assert total[1:] / total[:2].sum() == pytest.approx([0.1, 0.1], rel=0.02)
    assert bad / total == pytest.approx([0.01] * 3, rel=0.15)


def test_a_restarted_gateway_counts_from_zero_and_the_controller_knows_whom_it_served() -> None:
    found = drawn(KINDS["resets"])
    fell = np.diff(found.requests[:, :, 0, 1], axis=1) < 0
    assert fell.any(axis=1).mean() > 0.8
    assert (np.diff(found.served, axis=1) >= 0).all(), "the controller forgets nobody"
    assert (found.new.sum(axis=-1) <= 600).all()


def test_bad_events_cling_to_users_where_they_should() -> None:
    clustered, independent = (drawn(KINDS[name], runs=50) for name in ("clustered", "resets"))
    clinging, spread = (found.requests[:, -1, 0, 0].sum() / found.units[:, -1, 0, 0].sum()
                        for found in (clustered, independent))
    assert clinging > 3
    assert spread < 1.5
    assert clustered.units[:, -1, 0, 1].sum() > 0  # some met their fourth


def test_a_session_ends_within_its_look_and_its_user_does_not_come_again() -> None:
    found = drawn(KINDS["sessions"], runs=50)
    requests, users = found.requests[:, -1, :2, 1].sum(), found.served[:, -1].sum()
    assert requests / users == pytest.approx(10, rel=0.1)
    assert (found.served == found.new).all()
    bad, met = found.requests[:, -1, :2, 0].sum(), found.units[:, -1, :, 0].sum()
    assert bad / met > 4


def test_looks_without_data_are_as_many_as_they_should_be() -> None:
    data = drawn(KINDS["gaps"], runs=100).data
    assert 1 - data.mean() == pytest.approx(0.2 * 110 / LOOKS + 10 / LOOKS, rel=0.1)


# --- The others -----------------------------------------------------------------------------------


def seen_of(bad: list[int], data: list[bool] | None = None) -> Increases:
    """A candidate with ten requests in each look, and a faultless stable version with ninety."""
    def arm(counts: npt.ArrayLike, total: float) -> npt.NDArray[np.float64]:
        padded = np.zeros((1, LOOKS, 2))
        padded[0, :, 1] = total
        values = np.asarray(counts, dtype=np.float64)
        padded[0, :len(values), 0] = values
        return padded

    known = np.ones((1, LOOKS), dtype=np.bool_)
    known[0, :len(data or [])] = data or []
    candidate, stable = arm(bad, 10), arm([], 90)
    arms = [np.where(known[..., None], side, 0.0) for side in (stable, candidate, arm([], 10))]
    return Increases(arms[0], arms[1], arms[2], known)


def look_of(rule: Rule, seen: Increases) -> int:
    fired = rule.fired(seen)[0]
    return int(fired.argmax()) + 1 if fired.any() else 0


def test_failed_checks_add_up_or_must_follow_each_other() -> None:
    one_look = replace(FLAGGERS, window=1)
    now_and_then, in_a_row = seen_of([5, 0, 5, 0, 5]), seen_of([5, 0, 5, 5, 5])
    assert look_of(one_look, now_and_then) == 5
    assert look_of(replace(one_look, consecutive=True), now_and_then) == 0
    assert look_of(replace(one_look, consecutive=True), in_a_row) == 5


def test_a_window_remembers() -> None:
    assert look_of(replace(FLAGGERS, failures=1), seen_of([0, 0, 3])) == 3
    assert look_of(replace(FLAGGERS, failures=5), seen_of([0, 0, 3])) == 7
    assert look_of(replace(FLAGGERS, failures=6), seen_of([0, 0, 3])) == 0


def test_no_data_is_a_failure_for_one_and_none_for_the_other() -> None:
    nothing = seen_of([], [False, False, False])
    assert look_of(replace(FLAGGERS, window=1), nothing) == 3
    assert look_of(replace(ARGOS, window=1), nothing) == 0


def test_increases_see_restarts_and_catch_up_after_a_gap() -> None:
    found = replace(drawn(KINDS["iid"], runs=1), data=np.ones((1, LOOKS), dtype=np.bool_))
    found.requests[0, :, 0] = [(0, 10 * look) for look in range(1, LOOKS + 1)]
    found.requests[0, 5:, 0] = [(1, 3 * look) for look in range(1, LOOKS - 4)]
    found.data[0, 2] = False
    assert increases(found).stable[0, :7].tolist() == [[0, 10], [0, 10], [0, 0], [0, 20], [0, 10], [1, 3], [0, 3]]


def test_mann_whitney_finds_what_is_plain() -> None:
    fired = repeated_mann_whitney(seen_of([3] * LOOKS))[0]
    assert int(fired.argmax()) + 1 == 10
    assert not repeated_mann_whitney(seen_of([])).any()


def test_tuning_takes_the_soonest_of_those_that_keep_the_bound() -> None:
    harmless, bad = seen_of([1, 0, 0, 0, 1]), seen_of([2, 2, 2, 2, 2])
    rules = [replace(FLAGGERS, window=1, failures=failures) for failures in (1, 2, 3, 4)]
    assert tuned(iter(rules), harmless, [bad], alpha=0.05).failures == 3
    with pytest.raises(ValueError, match="widen the grid"):
        tuned(iter(rules[:2]), harmless, [bad], alpha=0.05)
