"""How measurements are shown: a line for each model and rows, and under it one for each task."""

from rich.console import Console

from services.cli.views import measurements


def shown(*items: dict[str, object]) -> list[list[str]]:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(measurements([dict(item) for item in items]))
    return [line.split() for line in capture.get().splitlines()]


def test_without_tasks_a_model_is_a_line() -> None:
    item: dict[str, object] = {"subject": "base", "on": "heldout", "rows": 9, "metrics": {"exact_match": 0.5}}
    assert shown(item) == [["MODEL", "ON", "ROWS", "EXACT_MATCH"], ["base", "heldout", "9", "0.500"]]


def test_each_task_is_a_line_and_no_column() -> None:
    metrics = {"exact_match": 0.5, "exact_match/sums": 0.25, "exact_match/words": 0.75}
    lines = shown({"subject": "base", "on": "heldout", "rows": 9, "metrics": metrics})
    assert lines[0] == ["MODEL", "ON", "ROWS", "TASK", "EXACT_MATCH"]
    assert [line[-2:] for line in lines[1:]] == [["all", "0.500"], ["sums", "0.250"], ["words", "0.750"]]
