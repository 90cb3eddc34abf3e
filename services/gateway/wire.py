"""HTTP/1.1 as text: what a request's head may look like, and how heads are written. Pure: bytes in, bytes out.

The parser (llhttp, strict) splits a stream into messages; here is what it leaves open, and what would let two parsers
on the way see different messages.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from services.gateway.request import Headers

RawHeaders = list[tuple[bytes, bytes]]

# At most one of each: two of them are how requests are smuggled past one of two servers.
_SINGLE = (b"content-length", b"transfer-encoding", b"host")
_REASONS = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_TRACE_CONTEXT = (b"traceparent:", b"tracestate:")
# What a header costs beside its bytes, as HTTP/2 counts it (RFC 9113, 6.5.2), so that many tiny ones cost, too.
HEADER_OVERHEAD = 32


class RequestHead:
    """The head of a request.

    Attributes:
        target: as the client sent it, with a query where there is one.
        path: the path in it, decoded; also of a target in absolute form.
        headers: all of them in their order, names in lower case.
        fields: the same by name; the last of several equal ones.
        http11: HTTP/1.1, so chunks and ``100 Continue`` are understood.
    """

    __slots__ = ("fields", "headers", "http11", "method", "path", "target")

    def __init__(self, method: bytes, target: bytes, headers: RawHeaders, *, http11: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.fields: Headers = dict(headers)
        self.http11 = http11
        self.path = path_of(target)

    @property
    def query(self) -> bytes:
        """What follows the question mark."""
        return self.target.partition(b"?")[2]

    def problem(self) -> str:
        """Why the message's bounds or its addressee are in doubt; empty where they are not."""
        fields = self.fields
        if len(fields) != len(self.headers):
            for name in _SINGLE:
                if sum(1 for given, _ in self.headers if given == name) > 1:
                    return f"it has more than one {name.decode()}"
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if b"content-length" in fields:
                return "it has both content-length and transfer-encoding"
            if not self.http11 or coding.strip().lower() != b"chunked":
                return "its transfer-encoding is not chunked, the only one that is understood"
        if self.http11 and b"host" not in fields:
            return "it has no host"
        return ""

    def announced(self) -> int:
        """The length that the body will have by its own word; 0 where it says nothing."""
        given = self.fields.get(b"content-length", b"")
        return int(given) if given.isdigit() else 0

    def without_upgrade(self) -> bytes:
        """The head without the wish for another protocol, which is a client's to offer and a server's to ignore."""
        kept = [header for header in self.headers if header[0] not in (b"upgrade", b"connection", b"http2-settings")]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (self.method, self.target, lines(kept))


@lru_cache(maxsize=1024)
def path_of(target: bytes) -> str:
    """The path in a target, decoded."""
    raw, _, _ = target.partition(b"?")
    if not raw.startswith(b"/"):
        raw = urlsplit(raw).path or b"/"
    path = raw.decode("latin-1")
    return unquote(path) if "%" in path else path


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header lines.

    Raises:
        ValueError: a name or value would end its line, which is how headers are injected.
    """
    each = [b"%b: %b\r\n" % header for header in headers]
    block = b"".join(each)
    if block.count(b"\n") != len(each) or block.count(b"\r") != len(each) or b"\0" in block:
        raise ValueError("a header holds a line end or NUL")
    return block


def passed(fields: Headers, names: Sequence[bytes]) -> bytes:
    """The lines of those headers that are there, as a parser read them: it lets no line end and no NUL through."""
    found = b""
    for name in names:
        if name in fields:
            found += b"%b: %b\r\n" % (name, fields[name])
    return found


def trace_context(lines: bytes) -> bytes:
    """Those of some header lines that carry a W3C trace context."""
    return b"".join(line for line in lines.splitlines(keepends=True) if line.startswith(_TRACE_CONTEXT))


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _REASONS.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def chunk(data: bytes) -> bytes:
    """One chunk of a body whose length is not known before its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
