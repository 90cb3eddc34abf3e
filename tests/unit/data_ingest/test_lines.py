"""Lines of any length are read in bounded memory, and counted as editors count them."""

import io
import tracemalloc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.data_ingest.lines import Line, read_lines


def lines(data: bytes, limit: int = 10) -> list[Line]:
    return list(read_lines(io.BytesIO(data), limit))


def test_both_line_ends_and_none_at_the_end() -> None:
    assert lines(b"ab\r\n\ncd") == [Line(1, 0, 2, b"ab"), Line(2, 4, 0, b""), Line(3, 5, 2, b"cd")]
    assert lines(b"") == []


def test_a_line_at_the_limit_is_kept_and_a_longer_one_is_not() -> None:
    for end in (b"", b"\n", b"\r\n"):
        assert lines(b"x" * 10 + end)[0].data == b"x" * 10
        assert lines(b"x" * 11 + end)[0] == Line(1, 0, 11, None)
    assert lines(b"x" * 5_000_000 + b"\nab") == [Line(1, 0, 5_000_000, None), Line(2, 5_000_001, 2, b"ab")]


def test_a_line_of_200_mb_costs_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(200_000_000)
    with (tmp_path / "file").open("rb") as file:
        tracemalloc.start()
        found = list(read_lines(file, 1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found == [Line(1, 0, 200_000_000, None)]
    assert peak < 8_000_000


@given(st.lists(st.binary(max_size=15).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))),
       st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_every_byte_is_accounted_for(parts: list[bytes], end: bytes, closed: bool) -> None:
    data = end.join(parts) + (end if closed and parts else b"")
    found = lines(data)
    expected = parts if (closed or not parts or parts[-1]) else parts[:-1]
    assert [line.size for line in found] == [len(part) for part in expected]
    assert [line.data for line in found] == [part if len(part) <= 10 else None for part in expected]
    for line, part in zip(found, expected, strict=True):
        assert data[line.offset:line.offset + line.size] == part
