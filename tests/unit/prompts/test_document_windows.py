"""The stream of texts, cut into windows: each token is predicted once, in its order, whatever the lengths."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.documents import windows

DOCUMENTS = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=8)


@settings(max_examples=30)
@given(DOCUMENTS, st.integers(2, 9))
def test_no_token_is_lost_or_repeated(documents: list[list[int]], length: int) -> None:
    stream = [token for document in documents for token in document]
    cut = list(windows(documents, start=0, length=length))
    assert [token for window in cut for token in window[1:]] == stream
    assert [window[0] for window in cut] == [0, *stream][: len(stream) : length - 1]
    assert all(len(window) == length for window in cut[:-1])
    assert all(2 <= len(window) <= length for window in cut)


def test_a_remainder_is_a_shorter_window_and_nothing_is_none() -> None:
    assert list(windows([[1, 2, 3], [], [4, 5]], start=0, length=4)) == [[0, 1, 2, 3], [3, 4, 5]]
    assert list(windows([[1, 2, 3]], start=0, length=4)) == [[0, 1, 2, 3]]
    assert list(windows([[], []], start=0, length=4)) == []
