"""Text from tokens: whole characters, nothing past a stop string, and nothing lost between the pieces."""

import hypothesis.strategies as st
from hypothesis import given

from services.serving.engine.text import TextStream


def decode(ids: list[int]) -> str:
    """Tokens are bytes, as the worst byte-level tokenizer would have it."""
    return bytes(ids).decode("utf-8", errors="replace")


def stream(text: str, stop: list[str], prompt: str = "") -> tuple[list[str], bool]:
    pieces = TextStream(decode, prompt.encode(), stop)
    given_out = []
    for token in text.encode():
        given_out.append(pieces.push(token))
        if pieces.stopped:
            return given_out, True
    given_out.append(pieces.finish())
    return given_out, pieces.stopped


def test_a_character_of_several_tokens_comes_whole() -> None:
    pieces, _ = stream("é", [], prompt="caf")
    assert pieces == ["", "é", ""]


def test_an_incomplete_character_at_the_end_is_shown_as_such() -> None:
    pieces = TextStream(decode, b"", [])
    assert pieces.push("é".encode()[0]) == ""
    assert pieces.finish() == "\N{REPLACEMENT CHARACTER}"


def test_a_stop_string_ends_the_text_before_itself() -> None:
    pieces, stopped = stream("one. two", ["."])
    assert ("".join(pieces), stopped) == ("one", True)


def test_what_might_become_a_stop_string_is_held_back_until_it_does_not() -> None:
    pieces, stopped = stream("a\nb", ["\n\n"])
    assert pieces == ["a", "", "\nb", ""]
    assert not stopped


def test_held_text_is_given_out_at_the_end() -> None:
    pieces, _ = stream("a\n", ["\n\n"])
    assert pieces[-1] == "\n"


def test_the_first_of_several_stop_strings_counts() -> None:
    pieces, _ = stream("abcdef", ["ef", "cd"])
    assert "".join(pieces) == "ab"


@given(
    st.text(alphabet="abé🦊\n", max_size=30), st.lists(st.text(alphabet="abé\n", min_size=1, max_size=3), max_size=3)
)
def test_the_pieces_are_the_text_up_to_the_first_stop(text: str, stop: list[str]) -> None:
    pieces, stopped = stream(text, stop)
    found = [at for at in (text.find(item) for item in stop) if at >= 0]
    ends = [text.find(item) + len(item) for item in stop if item in text]
    assert stopped == bool(found)
    if stopped:
        # The stop string that is complete first ends the text, wherever it began.
        first = min(ends)
        assert "".join(pieces) == text[: min(at for at in (text[:first].find(item) for item in stop) if at >= 0)]
    else:
        assert "".join(pieces) == text
