"""Steady traffic on gateways, which remembers when each model version was last asked."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import aiohttp


class Traffic:
    """Requests of one user each, to routes and gateways in turn.

    Attributes:
        last: by model version, when the last request that it answered was sent, Unix time.
        answers: how many there were.
        failures: requests without an answer of a gateway.
    """

    def __init__(self, gateways: Sequence[str], routes: Sequence[str], rate: float) -> None:
        self.last: dict[str, float] = {}
        self.answers = self.failures = 0
        self._gateways, self._routes, self._pause = gateways, routes, 1 / rate
        self._stop = threading.Event()
        self._random = random.Random(1)  # noqa: S311 - users, not secrets

    async def _run(self) -> None:
        loop, tasks = asyncio.get_running_loop(), set()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            number, due = 0, loop.time()
            while not self._stop.is_set():
                url = self._gateways[number % len(self._gateways)]
                route = self._routes[number // len(self._gateways) % len(self._routes)]
                task = asyncio.create_task(self._ask(session, url, route))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number, due = number + 1, due + self._pause
                await asyncio.sleep(max(0.0, due - loop.time()))
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, session: aiohttp.ClientSession, url: str, route: str) -> None:
        body = {"model": route, "messages": [{"role": "user", "content": "where is my card?"}]}
        headers = {"x-tuneloop-unit": f"u{self._random.randrange(1_000_000)}"}
        sent = time.time()
        try:
            async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                await answer.read()
                version = answer.headers.get("x-tuneloop-model-version", "")
        except (aiohttp.ClientError, TimeoutError):
            self.failures += 1
            return
        self.answers += 1
        self.last[version] = max(sent, self.last.get(version, 0.0))


@contextmanager
def traffic(gateways: Sequence[str], routes: Sequence[str], rate: float) -> Iterator[Traffic]:
    """`rate` requests per second in all, from a thread, while the block lasts."""
    made = Traffic(gateways, routes, rate)
    thread = threading.Thread(target=lambda: asyncio.run(made._run()), name="traffic", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made._stop.set()
        thread.join(30)
