"""The split: by group alone, near the asked shares, and never moving what is there."""

from hypothesis import given
from hypothesis import strategies as st

from services.data_ingest.split import split_of
from shared.pipeline import DatasetRules

SHARES = st.floats(min_value=0.01, max_value=0.49)


def rules(**values: object) -> DatasetRules:
    return DatasetRules.model_validate({"split_salt": "s", **values})


@given(st.text(max_size=40), SHARES, SHARES, st.text(max_size=10))
def test_depends_on_nothing_but_group_salt_and_shares(group: str, validation: float, test: float, salt: str) -> None:
    one = rules(validation_share=validation, test_share=test, split_salt=salt)
    two = rules(validation_share=validation, test_share=test, split_salt=salt, min_rows=99, max_row_bytes=7)
    assert split_of(group, one) == split_of(group, two)


@given(st.text(max_size=40), SHARES, SHARES, SHARES)
def test_a_larger_test_share_takes_nothing_out_of_the_test_split(group: str, a: float, b: float, v: float) -> None:
    small, large = sorted((a, b))
    if split_of(group, rules(test_share=small, validation_share=v)) == "test":
        assert split_of(group, rules(test_share=large, validation_share=v)) == "test"


def test_shares_are_met() -> None:
    found = [split_of(str(i), rules(validation_share=0.1, test_share=0.2)) for i in range(20_000)]
    # Six standard deviations of a binomial count.
    assert abs(found.count("test") - 4000) < 6 * 57
    assert abs(found.count("validation") - 2000) < 6 * 43


def test_another_salt_draws_another_split() -> None:
    pairs = [(split_of(str(i), rules()), split_of(str(i), rules(split_salt="t"))) for i in range(1000)]
    assert len(set(pairs)) == 9
