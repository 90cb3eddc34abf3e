"""Rows that repeat each other, as a run counts them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from services.trainer.job.likeness import Likeness, contaminated, likeness, likeness_of

QUESTION = "Please tell me when the new card that I ordered last week will be delivered to my home"


def test_rows_that_differ_in_case_and_punctuation_repeat_each_other() -> None:
    train = [("Where is my card?", "card"), ("where is my  CARD", "Card."), ("Where is my card?", "other answer")]
    assert likeness(train, []) == Likeness(repeated=1, contaminated=0, tests=0)


def test_a_test_prompt_that_differs_in_a_word_was_trained_on() -> None:
    test = [QUESTION.replace("ordered", "wanted"), "An entirely different question about the exchange rate", "hi"]
    assert contaminated([QUESTION, "unrelated"], test) == set(), "one word in the middle is in three triples of sixteen"
    assert contaminated([QUESTION, "unrelated"], [QUESTION + " soon", *test[1:]]) == {0}
    assert contaminated(["Hi!"], test) == {2}, "short texts are compared as a whole"


def test_the_system_prompt_that_all_rows_share_does_not_make_them_alike(tmp_path: Path) -> None:
    system = {"role": "system", "content": QUESTION * 3}
    answer = {"role": "assistant", "content": "a"}
    rows = [[system, {"role": "user", "content": said}, answer] for said in ("one", "two")]
    for split, row in zip(("train", "test"), rows, strict=True):
        pq.write_table(pa.table({"messages": [row]}), tmp_path / f"{split}.parquet")
    assert likeness_of(tmp_path) == Likeness(repeated=0, contaminated=0, tests=1)
    pq.write_table(pa.table({"text": ["a book"]}), tmp_path / "test.parquet")
    assert likeness_of(tmp_path) is None
