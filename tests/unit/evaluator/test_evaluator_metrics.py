"""Exact match, perplexity and bits per byte against numbers worked out by hand."""

import math

import pytest

from services.evaluator.job.metrics import RowScore, metrics


def row(
    expected: str = "yes", predicted: str | None = "yes", *, nats: float = 0.0, tokens: int = 1, note: str = "",
    size: int = 3,
) -> RowScore:
    return RowScore(id="r", expected=expected, predicted=predicted, nats=nats, tokens=tokens, note=note, bytes=size)


def test_perplexity_weighs_tokens_and_not_rows() -> None:
    """One row of one token with probability 1/8, one of three tokens with 1/2 each: (8 * 2 * 2 * 2) ** (1/4)."""
    rows = [row(nats=math.log(8), tokens=1), row(nats=3 * math.log(2), tokens=3)]
    assert metrics(rows)["perplexity"] == pytest.approx(64 ** (1 / 4))


def test_a_certain_model_has_perplexity_one() -> None:
    assert metrics([row(nats=0.0, tokens=5)])["perplexity"] == 1.0


def test_exact_match_ignores_white_space_around_the_answer_only() -> None:
    rows = [row(" yes\n", "yes"), row("yes", "Yes"), row("a  b", "a b"), row("", "")]
    assert metrics(rows)["exact_match"] == 0.5


def test_a_row_that_was_not_asked_is_no_match_and_has_no_perplexity() -> None:
    rows = [row("", "", tokens=0, note="too long", size=0), row(nats=math.log(4), tokens=2, size=4)]
    assert metrics(rows) == {
        "exact_match": 0.5, "perplexity": pytest.approx(2.0), "bits_per_byte": pytest.approx(0.5)
    }


def test_bits_per_byte_weighs_bytes_and_has_no_exact_match_for_texts() -> None:
    """12 bits over 6 bytes, however many tokens they were cut into."""
    for cut in (1, 5):
        found = metrics([row(predicted=None, nats=math.log(2**8), tokens=cut, size=2),
                         row(predicted=None, nats=math.log(2**4), tokens=1, size=4)])
        assert found["bits_per_byte"] == pytest.approx(2.0)
        assert "exact_match" not in found


def test_each_task_has_metrics_of_its_own() -> None:
    rows = [
        row(nats=math.log(2)).model_copy(update={"task": "a"}), row(predicted="no").model_copy(update={"task": "a"}),
        row(predicted="no", nats=math.log(8)).model_copy(update={"task": "b"}),
    ]
    found = metrics(rows)
    assert (found["exact_match/a"], found["exact_match/b"]) == (0.5, 0.0)
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["perplexity/b"] == pytest.approx(8.0)
    assert found["perplexity"] == pytest.approx(16 ** (1 / 3))


def test_nothing_measured_is_nan_and_overflow_is_infinite() -> None:
    assert all(math.isnan(value) for value in metrics([]).values())
    assert metrics([row(nats=1e9, tokens=1)])["perplexity"] == math.inf


def test_nan_survives_being_written_and_read() -> None:
    written = row(nats=math.nan).model_dump_json()
    assert math.isnan(RowScore.model_validate_json(written).nats)
