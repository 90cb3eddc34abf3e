"""Ten thousand requests with their bytes mutated, over real sockets: no crash, no leak, and never another model.

Seeded, so that a failure can be had again. The model servers answer with the model that they were asked for, so that
each answer shows where it is from; an observer sees what the gateway understood.
"""

import asyncio
import json
import random
import re
from collections.abc import Iterator

import pytest

from services.gateway.plan import Target
from services.gateway.record import Record
from services.gateway.split import fingerprint, pick, position
from tests.support.gateway_stand import STREAM_HEAD, Stand, chunked, http, read_request, request, running_stand
from tests.support.routes import BASE_MODEL, canary, loaded, ready, route, target
from tests.support.wait import eventually

pytestmark = pytest.mark.integration

REQUESTS = 10_000
CLIENTS = 50
SEED = 20_260_101
# The version that the gateway says, and the model that answered, of each answer in what a client read.
ANSWERED = re.compile(
    rb'x-tuneloop-model-version: ([^\r]+)(?:(?!x-tuneloop-model-version).)*?"answered_by": "([^"]*)"', re.DOTALL
)
UPSTREAM_NAMES = {b"base": BASE_MODEL.encode(), b"split@1": b"split@1", b"plain@1": b"plain@1"}


class Recorder:
    """Keeps what the gateway understood and chose."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def wants(self, request_id: str, target: Target, request: bytes) -> int | None:
        return 0

    def answered(self, request_id: str, target: Target, unit: int, begun: float) -> None: ...

    def finished(self, record: Record) -> None:
        self.records.append(record)


RECORDER = Recorder()


async def model_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        _, body = await read_request(reader)
        words = json.dumps({"answered_by": body["model"]}).encode()
        if not body.get("stream"):
            writer.write(http(words))
            continue
        writer.write(STREAM_HEAD + chunked(b"data: " + words + b"\n\n") + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with running_stand(
        lambda urls: [
            canary("split", None, "split@1", 5_000, salt="s"), route("plain", target("plain@1", "stable", 10_000)),
            *(item for name, url in zip(("one", "two"), urls, strict=True) for item in (
                ready(name, url), loaded(name, url, "split@1"), loaded(name, url, "plain@1"))),
        ],
        model_server, model_server, max_body_bytes=20_000, body_timeout_seconds=0.3, head_timeout_seconds=0.3,
        max_head_bytes=4_096, observer=RECORDER,
    ) as running:
        yield running


INSERTIONS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\xff\xfe", b"content-length: 3\r\n",
    b"transfer-encoding: chunked\r\n", b"transfer-encoding: identity\r\n", b"upgrade: h2c\r\nconnection: upgrade\r\n",
    b"expect: 100-continue\r\n", b"\r\n\r\n", b"host: evil\r\n", b"POST /v1/unload_lora_adapter HTTP/1.1\r\n",
    b'"model": "plain", ', b'"model": "split@1", ', b"{", b"}", b"1e999", b"\\ud800", b"a" * 5_000,
    b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n",
)


def mutated(message: bytes, draw: random.Random) -> bytes:
    """A few changes somewhere: bytes flipped, removed, doubled, or something that means something put in."""
    for _ in range(draw.choice((0, 1, 1, 1, 2, 5))):
        at = draw.randrange(len(message) + 1)
        kind = draw.randrange(5)
        length = draw.choice((1, 2, 8, 100))
        if kind == 0:
            message = message[:at] + bytes([draw.randrange(256)]) + message[at + 1 :]
        elif kind == 1:
            message = message[:at] + message[at + length :]
        elif kind == 2:
            message = message[:at] + message[at : at + length] + message[at:]
        else:
            lines = [place.start() for place in re.finditer(rb"(?<=\r\n)", message)]
            place = draw.choice(lines) if lines and kind == 3 else at
            message = message[:place] + draw.choice(INSERTIONS) + message[place:]
    return message


def drawn(draw: random.Random) -> tuple[bytes, str]:
    """A request, and the model that must answer it; empty where none may."""
    name = draw.choice(("split", "plain", "split", "nope"))
    unit = f"unit-{draw.randrange(200)}"
    side = pick(position(fingerprint("s", unit)), candidate=5_000)
    expected = {"plain": "plain@1", "nope": "", "split": "split@1" if side == "candidate" else BASE_MODEL}[name]
    body = {"model": name, "stream": draw.random() < 0.3, "messages": []}
    headers = [f"x-tuneloop-unit: {unit}", "content-type: application/json"]
    return request(body, *headers, path=draw.choice(("/v1/chat/completions", "/v1/completions"))), expected


async def send(port: int, message: bytes, draw: random.Random) -> bytes:
    """All that a client of its own gets for these bytes, until the gateway closes or is quiet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        cut = draw.randrange(len(message) + 1)
        writer.write(message[:cut])
        if draw.random() < 0.3:
            await asyncio.sleep(0)
        writer.write(message[cut:])
        if draw.random() < 0.1:
            return b""
        # Without an answer by then the rest of the message is awaited; that has tests of its own.
        async with asyncio.timeout(draw.choice((0.05, 0.2))):
            while part := await reader.read(65_536):
                received += part
                if received.endswith((b"}", b"0\r\n\r\n")):
                    break
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return received


async def fuzz(port: int) -> list[tuple[bytes, bytes, str, bool]]:
    """(sent, received, the model that must answer, whether the bytes were left as they were) of each request."""
    results: list[tuple[bytes, bytes, str, bool]] = []
    numbers = iter(range(REQUESTS))

    async def client() -> None:
        for number in numbers:
            draw = random.Random(SEED + number)
            message, expected = drawn(draw)
            changed = mutated(message, draw)
            received = await send(port, changed, draw)
            results.append((changed, received, expected, changed == message))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return results


@pytest.mark.timeout(600)
def test_ten_thousand_mutated_requests(stand: Stand) -> None:
    failures: list[str] = []
    stand.loop.set_exception_handler(lambda _, context: failures.append(str(context)))
    assert exchange_works(stand)
    tasks = stand.call(lambda: asyncio.all_tasks(stand.loop))
    results = asyncio.run(fuzz(stand.port))
    assert len(results) == REQUESTS
    answered = intact = 0
    for sent, received, expected, untouched in results:
        assert b"internal_error" not in received, sent
        for version, model in ANSWERED.findall(received):
            answered += 1
            assert UPSTREAM_NAMES[version] == model, (sent, received)
            if untouched:
                assert model.decode() == expected, (sent, received)
                intact += 1
    # The mutations leave enough alive for the test to mean something.
    assert intact > REQUESTS // 20
    assert answered > REQUESTS // 8
    assert failures == []
    assert exchange_works(stand)
    stand.assert_clean()
    eventually(lambda: only(stand, tasks), what="the last task's end")
    check_records(stand)


def check_records(stand: Stand) -> None:
    """Each request that got a target named its route, fell to it by the split, and was counted once."""
    for record in RECORDER.records:
        assert json.loads(record.request)["model"] == record.route
        side = pick(position(record.unit), candidate=5_000 if record.route == "split" else 0)
        assert (record.target.role, record.target.route) == (side, record.route)
    counted = {outcome: sum(stand.value("requests_total", route=r, model_version=v, outcome=outcome)
                            for r, v in (("split", "base"), ("split", "split@1"), ("plain", "plain@1")))
               for outcome in ("ok", "error", "rejected")}
    assert counted == {o: sum(1 for record in RECORDER.records if record.outcome == o) for o in counted}


def only(stand: Stand, tasks: set[asyncio.Task[object]]) -> bool:
    """Whether none but these tasks are left."""
    left = stand.call(lambda: asyncio.all_tasks(stand.loop)) - tasks
    assert not left, left
    return True


def exchange_works(stand: Stand) -> bool:
    """The gateway still serves."""
    with stand.connect() as client:
        client.sendall(request({"model": "plain"}))
        return b'"answered_by": "plain@1"' in client.recv(65_536)
