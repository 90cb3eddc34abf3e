"""Headers survive the database byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from shared.messaging.headers import dump_headers, load_headers


@given(st.lists(st.tuples(st.text(), st.binary())))
def test_headers_come_back_as_they_were(headers: list[tuple[str, bytes]]) -> None:
    text = dump_headers(headers)
    assert load_headers(text) == tuple(headers)
    assert text.isascii()
    assert "\0" not in text  # PostgreSQL would refuse it
