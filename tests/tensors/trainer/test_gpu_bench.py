"""What the benchmark of GPUs gives its contenders, and what it makes of what they say."""

import json
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import line, main
from benchmarks.gpu.contender import Speed, Work, rows_of
from shared.estimate.known import KNOWN


def _work(base: Path) -> Work:
    return Work(base, "lora", rows=64, longest=256, batch=8, seed=1)


def test_rows_are_the_same_for_all_and_as_uneven_as_conversations(tmp_path: Path) -> None:
    rows = rows_of(_work(tmp_path), vocabulary=100)
    assert rows == rows_of(_work(tmp_path), vocabulary=100)
    lengths = sorted(len(row["input_ids"]) for row in rows)
    assert len(rows) == 64
    assert lengths[-1] <= 256
    assert lengths[-1] > 4 * lengths[len(lengths) // 2], "few are long"
    assert all(token < 100 for row in rows for token in row["input_ids"])


def test_a_line_has_the_share_of_the_peak_on_a_gpu_of_the_table_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(KNOWN["llama-3.2-1b"]))
    rounds = [Speed(tokens, 10.0, [256] * 64, 12 * 10**9, bfloat16=True) for tokens in (100_000, 300_000, 200_000)]
    cells = [cell.strip() for cell in line("TRL", rounds, _work(tmp_path), "NVIDIA H200").split("|")]
    # 4 N of 1.24e9 weights and some attention, 20,000 times a second, of 989.4e12.
    assert cells[1:3] == ["TRL", "20000"]
    assert 9.9 < float(cells[3].removesuffix(" %")) < 10.5
    assert cells[4] == "12.0"
    assert [cell.strip() for cell in line("TRL", rounds, _work(tmp_path), None).split("|")][3] == ""


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit, match="torch finds no GPU here"):
        main()
