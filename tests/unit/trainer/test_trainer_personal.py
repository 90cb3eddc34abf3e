"""Rows with personal data, as a run counts them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.trainer.job.personal import personal_rows

PLAIN, MAIL = "Where is my card?", "Write to ann.lee@example.com about order 20231188."


def conversation(prompt: str, answer: str = "card", system: str = "Answer in one word.") -> list[dict[str, str]]:
    roles = ("system", "user", "assistant")
    return [{"role": role, "content": text} for role, text in zip(roles, (system, prompt, answer), strict=True)]


@pytest.mark.parametrize(("columns", "found"), [
    ({"messages": [conversation(PLAIN)] * 3}, 0),
    ({"messages": [conversation(MAIL), conversation(PLAIN, answer=MAIL), conversation(PLAIN, system=MAIL)]}, 3),
    ({"messages": [conversation(PLAIN)] * 3, "rejected": [PLAIN, "My card is 4111 1111 1111 1111.", PLAIN]}, 1),
    ({"text": [PLAIN, f"{MAIL}\n{MAIL}", PLAIN]}, 1),
])
def test_each_row_counts_once_wherever_it_has_something(tmp_path: Path, columns: dict[str, list[object]],
                                                        found: int) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    assert personal_rows(tmp_path / "train.parquet") == {"personal_rows": found, "scanned_rows": 3}


def test_of_many_rows_the_first_are_looked_at(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [MAIL] * 100}), tmp_path / "train.parquet")
    assert personal_rows(tmp_path / "train.parquet", most=3 * len(MAIL)) == {"personal_rows": 3, "scanned_rows": 3}
