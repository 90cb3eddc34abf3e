"""From a file to a dataset version: what is in it, what is refused, and that it is the same every time."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.data_ingest.prepare import Prepared, prepare
from services.data_ingest.report import Report
from shared.pipeline import DatasetRules
from tests.support.datasets import jsonl, rows

RULES = DatasetRules()
SPLITS = ("train", "validation", "test")
SMALL = st.fixed_dictionaries({"prompt": st.sampled_from("abcdefgh"), "completion": st.sampled_from("xyz")})


def run(folder: Path, data: bytes, rules: DatasetRules = RULES, *, by_task: bool = False) -> Prepared:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source").write_bytes(data)
    return prepare(folder / "source", folder, rules, by_task=by_task)


def good(done: Prepared) -> Report:
    assert done.reasons == []
    assert done.report is not None
    return done.report


def content(done: Prepared) -> dict[str, list[dict[str, Any]]]:
    return {split: pq.read_table(done.folder / f"{split}.parquet").to_pylist() for split in SPLITS}


def fingerprint(done: Prepared) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(done.folder.iterdir())}


def test_a_good_file(tmp_path: Path) -> None:
    done = run(tmp_path, jsonl(rows(200)))
    report, splits = good(done), content(done)
    assert {split: len(items) for split, items in splits.items()} == report.rows
    assert sum(report.rows.values()) == report.rows_in == 200
    first = splits["train"][0]
    assert sorted(first) == ["group", "id", "messages"]
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert json.loads((done.folder / "report.json").read_text())["rows"] == report.rows
    assert report.answer_characters is not None
    assert report.answer_characters.p50 == len("label 1")
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "profile.json", "report.json", "test.parquet", "train.parquet", "validation.parquet"
    ]


def test_same_bytes_make_the_same_version(tmp_path: Path) -> None:
    data = jsonl(rows(3000))
    first = fingerprint(run(tmp_path / "a", data))
    assert fingerprint(run(tmp_path / "b", data)) == first
    assert fingerprint(run(tmp_path / "c", data + jsonl(rows(1, start=9000)))) != first


def test_added_rows_move_nothing(tmp_path: Path) -> None:
    before = content(run(tmp_path / "a", jsonl(rows(300))))
    after = content(run(tmp_path / "b", jsonl(rows(300, start=300) + rows(300))))
    for split in SPLITS:
        assert {item["id"] for item in before[split]} <= {item["id"] for item in after[split]}


def test_rows_of_one_prompt_stay_together(tmp_path: Path) -> None:
    many = [{"prompt": f"q{i % 50}", "completion": f"a{i}"} for i in range(500)]
    done = run(tmp_path, jsonl(many))
    places: dict[str, set[str]] = {}
    for split, items in content(done).items():
        for item in items:
            places.setdefault(item["group"], set()).add(split)
    assert len(places) == 50
    assert all(len(splits) == 1 for splits in places.values())
    assert good(done).conflicting_prompts == 50


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SMALL, min_size=1, max_size=60))
def test_each_different_row_is_kept_once(tmp_path_factory: pytest.TempPathFactory, items: list[dict[str, str]]) -> None:
    done = run(tmp_path_factory.mktemp("p"), jsonl(items))
    report = done.report
    assert report is not None
    different = {(item["prompt"], item["completion"]) for item in items}
    kept = [tuple(m["content"] for m in row["messages"]) for split in content(done).values() for row in split]
    assert sorted(kept) == sorted(different)
    assert report.duplicates == len(items) - len(different)
    prompts = [prompt for prompt, _ in different]
    assert report.conflicting_prompts == sum(prompts.count(prompt) > 1 for prompt in set(prompts))
    assert report.rows_in == report.rows_kept + report.rows_rejected + report.duplicates


def test_bad_rows_within_the_allowed_share_are_reported_and_left_out(tmp_path: Path) -> None:
    data = jsonl(rows(50)) + b"\n{broken\n" + jsonl([{"prompt": "x"}]) + b'{"prompt": "caf\xe9", "completion": "a"}\r\n'
    report = good(run(tmp_path, data + jsonl(rows(50, start=50))))
    assert report.rejected == {"encoding": 1, "no_answer": 1, "not_json": 1}
    assert [report.problems[code][0].row for code in ("not_json", "no_answer", "encoding")] == [52, 53, 54]
    assert report.blank == 1
    assert report.rows_kept == 100
    assert report.dropped == report.rejected


def test_a_row_of_5_mb_is_refused_by_its_number(tmp_path: Path) -> None:
    huge = jsonl([{"prompt": "x" * 5_000_000, "completion": "a"}])
    done = run(tmp_path, jsonl(rows(100)) + huge)
    assert good(done).problems["too_large"][0].row == 101
    assert "5000033 bytes, more than the allowed 1000000 (spec.dataset.maxRowBytes)" in (
        good(done).problems["too_large"][0].message
    )


def test_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    assert good(run(tmp_path, b"\xef\xbb\xbf" + jsonl(rows(100)))).rows_in == 100


def test_ignored_keys_are_counted(tmp_path: Path) -> None:
    assert good(run(tmp_path, jsonl([item | {"source": "x"} for item in rows(100)]))).ignored_keys == {"source": 100}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["the file is empty (0 bytes)"]),
        (b"\n \n\r\n", ["the file has no rows: all of its 3 lines are blank"]),
        ("é\n".encode("utf-16"), ["it is UTF-16; save it as UTF-8"]),
        (b"\x1f\x8b\x08\x00", ["compressed with gzip"]),
        (b"PAR1....", ["it is Parquet"]),
        (b' [{"prompt": "a"}]', ["it is one JSON list", "jq -c"]),
        (jsonl(rows(10)), ["10 good rows are too few, at least 20 are needed (spec.dataset.minRows)"]),
        (jsonl(rows(10) * 10), ["10 good rows are too few", "has 100 rows", "90 repeat others"]),
        (jsonl(rows(80)) + b"{broken\n" * 20,
         ["20 of 100 rows are bad (20.0%), more than the allowed 10.0% (spec.dataset.maxRejectedShare)",
          "not_json: 20 rows; row 81: not JSON: Expecting property name"]),
        (jsonl([{"prompt": "the same", "completion": str(i)} for i in range(30)]),
         ["no row fell into", "rows: train", "publish more different prompts"]),
    ],
)
def test_useless_files_are_refused_with_their_numbers(tmp_path: Path, data: bytes, words: list[str]) -> None:
    reasons = " | ".join(run(tmp_path, data).reasons)
    for word in words:
        assert word in reasons


def test_rows_are_counted_by_who_answered_them(tmp_path: Path) -> None:
    taught = [row | {"teacher": "large, temperature 0, seed 17"} for row in rows(40)]
    report = good(run(tmp_path, jsonl(taught + rows(30, start=40) + [{**rows(1, start=99)[0], "teacher": 3}])))
    assert report.teachers == {"large, temperature 0, seed 17": 40}
    assert report.ignored_keys == {"teacher": 1}


def test_tasks_are_a_column_and_are_counted_by_split(tmp_path: Path) -> None:
    tasks = ["intents"] * 90 + ["sums"] * 30
    items = [row | {"task": task} for row, task in zip(rows(120), tasks, strict=True)]
    done = run(tmp_path, jsonl(items), by_task=True)
    counted: dict[str, dict[str, int]] = json.loads((done.folder / "report.json").read_text())["tasks"]
    assert counted == good(done).tasks
    for split, kept in content(done).items():
        assert sorted(kept[0]) == ["group", "id", "messages", "task"]
        for task in ("intents", "sums"):
            assert counted[task][split] == sum(item["task"] == task for item in kept)
    assert sum(counted["sums"].values()) == 30


@pytest.mark.parametrize(("tasks", "words"), [
    (["a"] * 60, "all rows are of the task a; give others too, or remove spec.training.multiTask"),
    ([f"row-{index}" for index in range(120)], "more than 100 different tasks"),
    ([*["a"] * 62, "rare"], "no row to train on has the task rare"),
])
def test_tasks_that_cannot_be_trained_together_are_refused(tmp_path: Path, tasks: list[str], words: str) -> None:
    # The 63rd row is held out.
    items = [row | {"task": task} for row, task in zip(rows(len(tasks)), tasks, strict=True)]
    assert words in " | ".join(run(tmp_path, jsonl(items), by_task=True).reasons)


def test_what_on_line_raises_ends_the_preparation(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(jsonl(rows(100)))

    def stop() -> None:
        raise InterruptedError("stop")

    with pytest.raises(InterruptedError):
        prepare(tmp_path / "source", tmp_path, RULES, on_line=stop)
