"""Heads: what makes one doubtful, and that none is written with a line too many. And limits of time without timers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.timers import Timers
from services.gateway.wire import RawHeaders, RequestHead, chunk, lines, passed, status_line, trace_context

HOST = (b"host", b"g")


def head(*headers: tuple[bytes, bytes], target: bytes = b"/", http11: bool = True) -> RequestHead:
    return RequestHead(b"POST", target, [HOST, *headers], http11=http11)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ([(b"content-length", b"1"), (b"content-length", b"1")], "more than one content-length"),
        ([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], "more than one transfer-encoding"),
        ([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], "both"),
        ([(b"transfer-encoding", b"gzip, chunked")], "not chunked"),
        ([HOST], "more than one host"),
    ],
)
def test_doubtful_heads(headers: RawHeaders, problem: str) -> None:
    assert problem in head(*headers).problem()


def test_the_trace_context_of_a_head_is_taken_over_and_nothing_else() -> None:
    trace = b"traceparent: 00-a-b-01\r\ntracestate: c=d\r\n"
    assert trace_context(b"x-request-id: 1\r\naccept: traceparent: x\r\n" + trace + b"host: g\r\n") == trace
    assert trace_context(b"x-request-id: 1\r\n") == b""


def test_heads_without_doubt() -> None:
    assert head((b"accept", b"a"), (b"accept", b"b"), (b"transfer-encoding", b"Chunked")).problem() == ""
    assert RequestHead(b"GET", b"/", [], http11=True).problem() == "it has no host"
    assert RequestHead(b"GET", b"/", [], http11=False).problem() == ""
    assert "not chunked" in head((b"transfer-encoding", b"chunked"), http11=False).problem()


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [(b"/v1/models?a=b?c", "/v1/models", b"a=b?c"), (b"/v1/%6dodels", "/v1/models", b""),
     (b"http://other/v1/models?x", "/v1/models", b"x"), (b"*", "*", b""), (b"http://other", "/", b"")],
)
def test_paths(target: bytes, path: str, query: bytes) -> None:
    assert (head(target=target).path, head(target=target).query) == (path, query)


def test_the_announced_length() -> None:
    assert head((b"content-length", b"17")).announced() == 17
    assert head((b"content-length", b"1e9")).announced() == 0
    assert head().announced() == 0


def test_a_wish_for_another_protocol_is_left_out() -> None:
    wished = head((b"upgrade", b"h2c"), (b"connection", b"upgrade"), (b"content-length", b"3"))
    assert wished.without_upgrade() == b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\n"


@given(name=st.binary(), value=st.binary())
def test_no_header_ends_its_line(name: bytes, value: bytes) -> None:
    bad = any(sign in name + value for sign in (b"\r", b"\n", b"\0"))
    try:
        written = lines([HOST, (name, value)])
    except ValueError:
        assert bad
    else:
        assert not bad
        assert written == b"host: g\r\n" + name + b": " + value + b"\r\n"


def test_answers() -> None:
    assert status_line(431) == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    assert status_line(599) == b"HTTP/1.1 599 Status\r\n"
    assert passed({b"a": b"1", b"b": b"2"}, (b"b", b"c", b"a")) == b"b: 2\r\na: 1\r\n"
    assert chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"


class Once:
    """Leaves at its time, in the middle of the look at everybody."""

    def __init__(self, timers: Timers, at: float) -> None:
        self._timers, self._at = timers, at

    def check(self, now: float) -> None:
        if now >= self._at:
            self._timers.discard(self)


def test_everybody_is_asked_and_may_leave_meanwhile() -> None:
    timers = Timers()
    for at in (1.0, 2.0, 3.0):
        timers.add(Once(timers, at))
    left = []
    for now in (0.5, 1.5, 2.0, 3.0):
        timers.check(now)
        left.append(timers.count)
    assert left == [3, 2, 1, 0]
