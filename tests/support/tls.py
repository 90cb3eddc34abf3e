"""TLS in front of a server that has none, for clients that must check certificates."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
# Speaks first with a client (reader, writer) and the backend (reader, writer); whether to go on.
Greeting = Callable[[Reader, Writer, Reader, Writer], Awaitable[bool]]


async def _no_words(*_: Reader | Writer) -> bool:
    return True


@contextmanager
def tls_in_front(
    port: int, backend: int, context: ssl.SSLContext, greet: Greeting = _no_words
) -> Iterator[None]:
    """Take TLS connections on `port` of 127.0.0.1 and hand what they say to `backend`, while the block lasts."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    listening = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=context)
        listening.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def connected(reader: Reader, writer: Writer) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", backend)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
            if await greet(reader, writer, there, back):
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        back.close()
        writer.close()

    def run() -> None:
        # A client that refuses our certificate ends the handshake; that is its test's affair.
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(serve())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, name="tls", daemon=True)
    thread.start()
    try:
        assert listening.wait(10), "the TLS server did not start"
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


async def _pump(source: Reader, target: Writer) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    except OSError:
        pass  # one side went away; so does the other
    finally:
        target.close()
