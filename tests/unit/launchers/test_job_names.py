"""Job names and specs: valid for Kubernetes, and different for different work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.launchers import JobSpec, job_name

PARTS = st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=3)


def test_plain_parts_stay_readable() -> None:
    assert job_name("train", "support-intents-0123456789ab", 2) == "train-support-intents-0123456789ab-2"
    assert job_name("evaluate", "support@3", 1).startswith("evaluate-support-3-1-")


@given(PARTS)
def test_every_name_is_a_valid_job(parts: list[str]) -> None:
    assert JobSpec(name=job_name(*parts), module="services.trainer.job").name


@given(PARTS, PARTS)
def test_different_parts_give_different_names(one: list[str], two: list[str]) -> None:
    if "-".join(one) != "-".join(two):
        assert job_name(*one) != job_name(*two)


def test_long_names_of_two_attempts_differ() -> None:
    first, second = job_name("train", "p" * 63, "0123456789ab", 1), job_name("train", "p" * 63, "0123456789ab", 2)
    assert first != second
    assert max(len(first), len(second)) <= 63


@pytest.mark.parametrize("wrong", [{"name": "a/b"}, {"name": ".."}, {"module": "os; rm"}, {"cpu": 0}, {"typo": 1}])
def test_wrong_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate({"name": "a", "module": "m", **wrong})
