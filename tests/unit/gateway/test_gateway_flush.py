"""Writes of one turn of the loop: together, in order, and nobody's mistake is another's loss."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from services.gateway.balance import Balancer
from services.gateway.flush import Flusher, Writer
from services.gateway.link import BrokenAnswerError, Link, NothingSentError
from services.gateway.plan import Endpoint, Target
from services.gateway.pool import Pool
from services.gateway.timers import Timers
from services.gateway.upstream import Order, Upstream


class Wire(asyncio.Transport):
    """Notes what is done with it."""

    def __init__(self, end: socket.socket | None = None) -> None:
        super().__init__()
        self._socket = end
        self.log: list[object] = []
        self.closing = False
        self.broken = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.log.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.log.append("close")

    def abort(self) -> None:
        self.closing = True
        self.log.append("abort")

    def write_eof(self) -> None:
        self.log.append("eof")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket or default


_ENDPOINT = Endpoint("replica", "http://replica")
_TARGET = Target(route="r", label="r@1", upstream_model="r@1", role="stable", weight=10_000, effective_weight=10_000,
                 endpoints=(_ENDPOINT,))
_ORDER = Order(target=_TARGET, unit=1, path="/v1/completions", request=b"{}", body=b"{}", head=b"")


def on_loop(scenario: Callable[[Flusher], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario(Flusher()))


def test_what_one_turn_writes_is_one_write_at_its_end() -> None:
    async def scenario(flusher: Flusher) -> None:
        one, other = Wire(), Wire()
        writers = [Writer(flusher, one), Writer(flusher, other)]
        for part in (b"a", b"b", b"c"):
            for writer in writers:
                writer.write(part)
        assert (one.log, other.log) == ([], [])
        assert writers[0].waiting
        await asyncio.sleep(0)
        assert (one.log, other.log) == ([b"abc"], [b"abc"])
        assert not writers[0].waiting
        writers[1].write(b"d")
        await asyncio.sleep(0)
        assert (one.log, other.log) == ([b"abc"], [b"abc", b"d"])

    on_loop(scenario)


@pytest.mark.parametrize(("end", "last"), [(Writer.close, "close"), (Writer.end, "eof")])
def test_an_end_comes_behind_what_was_written(end: Callable[[Writer], None], last: str) -> None:
    async def scenario(flusher: Flusher) -> None:
        wire = Wire()
        writer = Writer(flusher, wire)
        writer.write(b"answer")
        end(writer)
        await asyncio.sleep(0)
        assert wire.log == [b"answer", last]

    on_loop(scenario)


def test_an_abort_sends_nothing_more() -> None:
    async def scenario(flusher: Flusher) -> None:
        wire = Wire()
        writer = Writer(flusher, wire)
        writer.write(b"answer")
        writer.abort()
        await asyncio.sleep(0)
        assert wire.log == ["abort"]

    on_loop(scenario)


def test_a_connection_that_closed_in_between_is_not_written_to() -> None:
    async def scenario(flusher: Flusher) -> None:
        wire = Wire()
        Writer(flusher, wire).write(b"answer")
        wire.closing = True
        await asyncio.sleep(0)
        assert wire.log == []

    on_loop(scenario)


def test_one_connections_failure_costs_the_others_nothing() -> None:
    async def scenario(flusher: Flusher) -> None:
        bad, good = Wire(), Wire()
        bad.broken = True
        for wire in (bad, good):
            Writer(flusher, wire).write(b"answer")
        await asyncio.sleep(0)
        assert (bad.log, good.log) == (["abort"], [b"answer"])

    on_loop(scenario)


class _Sink:
    """Notes how an answer went."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def lost(self, error: Exception) -> None:
        self.errors.append(error)

    failed = lost

    def head(self, *_: object) -> None: ...

    def data(self, _: bytes) -> None: ...

    def whole(self) -> None: ...


def _link(pool: Pool, flusher: Flusher, sockets: ExitStack) -> tuple[Link, Wire]:
    here, there = socket.socketpair()
    sockets.enter_context(here)
    sockets.enter_context(there)
    wire = Wire(here)
    link = Link("http://replica", pool, flusher, read_seconds=9, idle_seconds=9)
    link.connection_made(wire)
    return link, wire


@pytest.mark.parametrize(("turns", "kind"), [(0, NothingSentError), (1, BrokenAnswerError)])
def test_a_request_whose_connection_ends_before_its_turn_does_was_not_sent(turns: int, kind: type[Exception]) -> None:
    async def scenario(flusher: Flusher) -> None:
        receiver = _Sink()
        with ExitStack() as sockets:
            link, _ = _link(Pool(Timers(), flusher, connect_seconds=9, read_seconds=9), flusher, sockets)
            link.ask(b"POST / HTTP/1.1\r\n\r\n", receiver)
            for _ in range(turns):
                await asyncio.sleep(0)
            link.connection_lost(None)
        assert [type(error) for error in receiver.errors] == [kind]

    on_loop(scenario)


def test_what_was_not_sent_is_sent_to_the_same_replica_on_another_connection() -> None:
    async def scenario(flusher: Flusher) -> None:
        pool = Pool(Timers(), flusher, connect_seconds=9, read_seconds=9)
        upstream = Upstream(pool, Balancer(failures=1, seconds=9), 9)
        sink = _Sink()
        with ExitStack() as sockets:
            spare, heard = _link(pool, flusher, sockets)
            stale, silent = _link(pool, flusher, sockets)
            pool.keep(spare)
            pool.keep(stale)
            upstream.ask(_ORDER, sink)
            stale.connection_lost(None)
            await asyncio.sleep(0)
            assert b"".join(part for part in heard.log if isinstance(part, bytes)).endswith(b"{}")
            spare.connection_lost(None)
        assert silent.log == ["abort"]
        assert len(sink.errors) == 1, "what was sent is never sent again"

    on_loop(scenario)
