"""A login in front of a broker that has none: Kafka's SaslHandshake and SaslAuthenticate, with SCRAM by scramp.

The messages are those of Kafka's protocol guide, in the versions that Tansu names as its newest (17: 1, 36: 2). Tansu
can ask for a login itself, but that of the wheel has no storage that keeps users.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scramp import ScramException, ScramMechanism

from tests.support.tls import Reader, Writer

SASL_HANDSHAKE, SASL_AUTHENTICATE, API_VERSIONS = 17, 36, 18
UNSUPPORTED_MECHANISM, FAILED = 33, 58
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class _Request:
    key: int
    correlation: bytes
    body: bytes
    frame: bytes


class Login:
    """Takes clients that know a user's password; a `Greeting` of `tls_in_front`.

    Args:
        users: passwords by name.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users

    async def __call__(self, reader: Reader, writer: Writer, there: Reader, back: Writer) -> bool:
        """Whether the client has logged in. Until then it may ask nothing else but what the broker can do."""
        server: Any = None
        while True:
            request = await _read(reader)
            if request.key == API_VERSIONS:
                back.write(_framed(request.frame))
                writer.write(_framed(await _frame(there)))
            elif request.key == SASL_HANDSHAKE:
                server = self._server(_string(request.body))
                named = b"".join(struct.pack(">h", len(name)) + name.encode() for name in MECHANISMS)
                code = 0 if server else UNSUPPORTED_MECHANISM
                writer.write(_framed(request.correlation + struct.pack(">hi", code, len(MECHANISMS)) + named))
            elif request.key == SASL_AUTHENTICATE and server:
                code, said, done = _step(server, _compact(request.body))
                writer.write(_framed(request.correlation + b"\0" + _answer(code, said)))
                if code or done:
                    return not code
            else:
                return False

    def _server(self, mechanism: str) -> Any:
        if mechanism not in MECHANISMS:
            return None
        scram = ScramMechanism(mechanism=mechanism)
        return scram.make_server(lambda name: scram.make_auth_info(self._users[name]))


def _step(server: Any, token: bytes) -> tuple[int, str, bool]:
    """Error code, what to say, and whether it was the last step."""
    try:
        if server.stage is None:
            server.set_client_first(token.decode())
            return 0, server.get_server_first(), False
        server.set_client_final(token.decode())
        return 0, server.get_server_final(), True
    except (ScramException, KeyError):
        return FAILED, "", True


def _answer(code: int, said: str) -> bytes:
    """The body of SaslAuthenticate 2: code, message, bytes, lifetime, no tagged fields."""
    message = b"\x0frefused at door" if code else b"\0"
    assert len(said) < 127 * 128, "a length of two bytes at most"
    size = len(said) + 1
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return struct.pack(">h", code) + message + length + said.encode() + struct.pack(">q", 0) + b"\0"


async def _frame(reader: Reader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _framed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


async def _read(reader: Reader) -> _Request:
    frame = await _frame(reader)
    (key,) = struct.unpack(">h", frame[:2])
    client = max(0, struct.unpack(">h", frame[8:10])[0])
    return _Request(key, frame[4:8], frame[10 + client:], frame)


def _string(body: bytes) -> str:
    return body[2:2 + struct.unpack(">h", body[:2])[0]].decode()


def _compact(body: bytes) -> bytes:
    """The bytes of SaslAuthenticate 2, after the header's tagged fields, of which there are none."""
    size, at = body[1] & 127, 2
    if body[1] & 128:
        size, at = size | body[2] << 7, 3
    return body[at:at + size - 1]
