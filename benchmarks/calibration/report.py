"""The measured part of README.md. Pure."""

from collections.abc import Callable, Sequence

from benchmarks.calibration.abtests import TESTED
from benchmarks.calibration.results import (
    CONTENDERS,
    NO_USERS,
    OURS,
    Bar,
    Cell,
    Counting,
    Results,
    Verdict,
    bound,
    failed,
    gate,
    promises,
)
from benchmarks.calibration.scenarios import (
    BETTER,
    COMMON,
    EQUAL,
    LOOKS,
    MARGIN,
    MUCH_BETTER,
    NO_CHANGE,
    TENFOLD,
    THREEFOLD,
    TRAFFIC,
    TWOFOLD,
    Hypothesis,
)
from benchmarks.readme import between_marks

_BARS: dict[Bar, str] = {
    "false rollback": "a harmless candidate is rolled back",
    "false rollback, common": f"the same where bad requests are common, {COMMON.title}",
    "false promotion": "a candidate at the margin is promoted",
    "looks to find tenfold": "looks until 1 % → 10 % is rolled back, median",
    "power at threefold": f"1 % → 3 % is rolled back within {LOOKS} looks",
    "false rollback, no users": "a harmless candidate is rolled back, no users counted",
    "false rollback, common, no users": f"the same where bad requests are common, {COMMON.title}",
    "false winner": f"an A/B test names a winner where there is none, {EQUAL.title}",
    "false winner, no users": "the same, no users counted",
}
_COUNTINGS: dict[Counting, str] = {"users": "users counted", "no users": "no users counted"}


def with_measured(text: str, results: Results) -> str:
    """A README with what was measured between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    return between_marks(text, lambda: measured(results))


def measured(results: Results) -> str:
    """All tables, and how they came about."""
    verdicts = promises(results)
    lost = len(failed(verdicts))
    runs = {cell.hypothesis: cell.runs for cell in results.cells}
    how_many = ", ".join(f"{count} of {name}" for name, count in runs.items())
    said = "All bars hold." if not lost else f"**{lost} of {len(verdicts)} bars do NOT hold.**"
    found = f"Rolled back within {LOOKS} looks, and the median look."
    return "\n".join([
        f"{said} Seed {results.seed}; rollouts in each kind of traffic: {how_many}. In each scenario the first "
        f"{results.checked} went through the whole reducer too, look by look: every decision came at the same look.",
        f"{results.machine}; {results.seconds / 60:.1f} minutes of one core.", "",
        "### The bars", "", *_verdicts(verdicts), "",
        "### The same gate for the others", "", *_others(results), "",
        *_tuned(results), "",
        f"### Rolled back though harmless ({NO_CHANGE.title})", "",
        f"The bar is 5 % and three standard errors: {_percent(bound(0.05, runs[NO_CHANGE.name]))}.", "",
        *_table(results, NO_CHANGE, lambda cell: _percent(cell.share_rolled_back)), "",
        f"### Rolled back though harmless, where bad requests are common ({COMMON.title})", "",
        f"The bar: {_percent(bound(0.05, runs[COMMON.name]))}.", "",
        *_table(results, COMMON, lambda cell: _percent(cell.share_rolled_back)), "",
        f"### Promoted though at the margin ({MARGIN.title})", "",
        f"The bar is 5 % and three standard errors: {_percent(bound(0.05, runs[MARGIN.name]))}. tuneloop promotes at "
        "the first look at which the guardrail is safe; the others, what they have not rolled back in the end.", "",
        *_table(results, MARGIN, lambda cell: _percent(cell.share_promoted)), "",
        f"### Found: {TWOFOLD.title}", "", found, "",
        *_table(results, TWOFOLD, _found), "",
        f"### Found: {THREEFOLD.title}", "", found, "",
        *_table(results, THREEFOLD, _found), "",
        f"### Found: {TENFOLD.title}", "", found, "",
        *_table(results, TENFOLD, _found), "",
        "### Promoted: a harmless candidate", "",
        "What the guarantees cost: so many are proved safe, and so promoted, by the last look.", "",
        *_table(results, NO_CHANGE, lambda cell: _percent(cell.share_promoted), (OURS, NO_USERS)), "",
        "### A/B tests", "",
        "Halves of the traffic, asked at every look: how many name a winner though both versions are equally bad "
        f"({EQUAL.title}), and how many find the better one within {LOOKS} looks.", "",
        *_tests(results), "",
    ])


def _tests(results: Results) -> list[str]:
    rows = [f"| | | {' | '.join(TESTED)} |", f"|---|---|{'---|' * len(TESTED)}"]
    for counting, words in _COUNTINGS.items():
        for hypothesis in (EQUAL, BETTER, MUCH_BETTER):
            found = [results.answer(counting, name, hypothesis.name) for name in TESTED]
            shares = [None if one is None else one.share_answered if hypothesis is EQUAL else one.share_candidate
                      for one in found]
            what = "wrong" if hypothesis is EQUAL else "found"
            told = ("-" if share is None else _percent(share) for share in shares)
            rows.append(f"| {words} | {what}: {hypothesis.title} | {' | '.join(told)} |")
    return rows


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    rows = ["| bar | traffic | rollouts | measured | at most (*: at least) | |", "|---|---|---|---|---|---|"]
    for verdict in verdicts:
        form = _looks if verdict.bar == "looks to find tenfold" else _percent
        least = " *" if verdict.bar == "power at threefold" else ""
        numbers = f"{verdict.runs} | {form(verdict.measured)} | {form(verdict.limit)}{least}"
        held = "held" if verdict.held else "**NOT held**"
        rows.append(f"| {_BARS[verdict.bar]} | {verdict.traffic} | {numbers} | {held} |")
    return rows


def _others(results: Results) -> list[str]:
    rows = ["| | bars that do not hold | which |", "|---|---|---|"]
    for contender in CONTENDERS:
        verdicts = gate(results, contender)
        lost = failed(verdicts)
        by_bar = {bar: [verdict.traffic for verdict in lost if verdict.bar == bar] for bar in _BARS}
        which = "; ".join(f"{bar}: {', '.join(traffic)}" for bar, traffic in by_bar.items() if traffic)
        rows.append(f"| {contender} | {len(lost)} of {len(verdicts)} | {which or 'none'} |")
    return rows


def _tuned(results: Results) -> list[str]:
    return ["Tuned:", "", *(f"- {name}: {words}." for name, words in results.rules.items())]


def _table(
    results: Results, hypothesis: Hypothesis, form: Callable[[Cell], str], contenders: Sequence[str] = CONTENDERS
) -> list[str]:
    names = [traffic.name for traffic in TRAFFIC
             if results.cell(OURS, traffic.name, hypothesis.name) is not None]
    rows = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for contender in contenders:
        cells = [results.cell(contender, name, hypothesis.name) for name in names]
        rows.append(f"| {contender} | {' | '.join('-' if cell is None else form(cell) for cell in cells)} |")
    return rows


def _found(cell: Cell) -> str:
    median = cell.median_look
    return _percent(cell.share_rolled_back) + ("" if median is None else f", {median}")


def _percent(share: float | None) -> str:
    return "never" if share is None else f"{100 * share:.1f} %"


def _looks(looks: float | None) -> str:
    return "never" if looks is None else f"{looks:g}"
