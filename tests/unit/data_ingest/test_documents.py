"""A row of text: what is cleaned, what stays, and what is said about a bad one; and a file of them."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.data_ingest.documents import Document, clean, parse_document
from services.data_ingest.examples import RowError, parse_row
from services.data_ingest.prepare import prepare
from shared.pipeline import DatasetRules
from tests.support.datasets import rows, write_jsonl

CODE = "def f(x):\n\tif x:\n\n        return  {'a': 1}   \n\x0cclass A: pass\n"


def parse(row: Any) -> Document:
    return parse_document(json.dumps(row).encode(), offset=0)


@pytest.mark.parametrize(("given", "kept"), [
    (CODE, CODE),
    ("  a\r\nb\rc\r\n\r\n", "  a\nb\nc\n\n"),
    ("\ufeffa\x00b\x1b[0m\x7f", "ab[0m"),
    ("cafe\u0301\u00a0\u3000x\u200d", "caf\u00e9\u00a0\u3000x\u200d"),
])
def test_white_space_stays_and_what_nobody_reads_goes(given: str, kept: str) -> None:
    assert parse({"text": given}).text == kept
    assert clean(kept) == kept


def test_equal_texts_are_duplicates_and_each_is_a_group_of_its_own() -> None:
    one, same, other = parse({"text": "a\r\n", "url": "x"}), parse({"text": "a\n"}), parse({"text": "b"})
    assert (one.id, one.prompt_key, one.answer_key) == (same.id, same.prompt_key, same.answer_key)
    assert one.ignored == ("url",)
    assert one.group == one.id != other.group
    assert one.prompt_key != other.prompt_key


@pytest.mark.parametrize(("row", "code", "words"), [
    ({"prompt": "a", "completion": "b"}, "no_text", "rows of objective: sft"),
    ({"body": "a"}, "no_text", 'pretrain, and "text" is missing; write {"text": "..."}'),
    ({"text": ["a"]}, "not_text", "row.text must be text, not a list"),
    ({"text": " \r\n\x00"}, "empty_text", "remove the row"),
    ([], "not_object", 'write {"text": "..."}'),
])
def test_rows_of_another_kind_are_refused_with_the_remedy(row: Any, code: str, words: str) -> None:
    with pytest.raises(RowError, match=re.escape(words)) as caught:
        parse(row)
    assert caught.value.code == code


def test_a_text_published_to_a_pipeline_of_answers_is_told_where_it_belongs() -> None:
    with pytest.raises(RowError, match=r"a row of spec.training.objective: pretrain"):
        parse_row(b'{"text": "a"}', offset=0)


def test_a_file_of_texts_becomes_splits_of_texts_without_a_profile_of_questions(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "source", [{"text": f"{CODE}# {index}\r\n"} for index in range(60)] * 2)
    done = prepare(source, tmp_path, DatasetRules(), objective="pretrain")
    assert done.reasons == []
    assert done.report is not None
    assert (done.report.rows_kept, done.report.duplicates, done.report.conflicting_prompts) == (60, 60, 0)
    assert done.report.prompt_characters is None
    assert done.report.answer_characters is not None
    texts = {row["text"] for split in ("train", "validation", "test")
             for row in pq.read_table(done.folder / f"{split}.parquet").to_pylist()}
    assert texts == {f"{CODE}# {index}\n" for index in range(60)}
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "report.json", "test.parquet", "train.parquet", "validation.parquet"
    ]


def test_answers_published_to_a_pipeline_of_texts_are_refused_and_told_what_to_do(tmp_path: Path) -> None:
    done = prepare(write_jsonl(tmp_path / "source", rows(30)), tmp_path, DatasetRules(), objective="pretrain")
    assert any("no_text: 30 rows" in reason and "objective: sft" in reason for reason in done.reasons)
