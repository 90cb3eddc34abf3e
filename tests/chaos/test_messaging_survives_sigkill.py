"""A real process is killed again and again while events flow through it, over a real broker.

It ends with every event handled once and in order per key, and every fact published.
"""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.clock import SystemClock, monotonic
from shared.db import connect
from shared.messaging import RelayLoop
from shared.messaging.broker import KafkaSource, Record
from tests.support.broker import start_tansu
from tests.support.db import create_tables, sqlite_engine
from tests.support.echo import TOPIC_OUT, EchoBase, effects, heard, tell, unpublished
from tests.support.wait import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(240)]

KEYS, EACH, KILLS = "abcdef", 60, 10
SERVICE = Path(__file__).parent / "echo_service.py"
CLOCK = SystemClock()


class Service:
    """The process, started again after each kill, as a supervisor would."""

    def __init__(self, url: str, bootstrap: str, output: Path) -> None:
        self._command = [sys.executable, str(SERVICE), url, bootstrap]
        self._output = output.open("ab")
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        root = Path(__file__).parents[2]
        return subprocess.Popen(
            self._command, stdout=self._output, stderr=self._output, env={**os.environ, "PYTHONPATH": str(root)}
        )

    def kill(self) -> None:
        """SIGKILL, and a new process."""
        self._process.kill()
        code = self._process.wait()
        assert code == -9, f"the service ended by itself with {code}"
        self._process = self._start()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        try:
            return self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return -9
        finally:
            self._output.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The service's own database."""
    if request.param == "sqlite":
        with sqlite_engine(EchoBase.metadata) as engine:
            yield engine
        return
    engine = connect(request.getfixturevalue("postgres_url"))
    create_tables(engine, EchoBase.metadata)
    yield engine
    engine.dispose()


@contextmanager
def telling(bootstrap: str, stop: threading.Event) -> Iterator[Engine]:
    """Another service, in this process, that says the events while the first one dies."""
    with sqlite_engine() as engine:
        relay = RelayLoop(engine=engine, bootstrap=bootstrap, clock=CLOCK, source="test")
        thread = threading.Thread(target=relay.run, args=(stop,))
        thread.start()
        try:
            yield engine
        finally:
            stop.set()
            thread.join()


def test_effects_once_and_in_order_whenever_it_is_killed(database: Engine, tmp_path: Path) -> None:
    dice = random.Random(20260101)
    facts = [(key, number) for number in range(1, EACH + 1) for key in KEYS]
    expected = {key: list(range(1, EACH + 1)) for key in KEYS}
    url = database.url.render_as_string(hide_password=False)
    log = tmp_path / "service.log"
    with start_tansu() as bootstrap, telling(bootstrap, threading.Event()) as teller:
        service = Service(url, bootstrap, log)
        try:
            share = len(facts) // KILLS
            handled = 0
            for kill in range(KILLS):
                tell(teller, CLOCK, facts[kill * share : (kill + 1) * share])
                # Some progress between two deaths, then a moment of any length: it dies at a point of any loop.
                handled = more_than(handled, database)
                threading.Event().wait(dice.uniform(0, 0.15))
                service.kill()
            tell(teller, CLOCK, facts[KILLS * share :])
            eventually(lambda: effects(database) == expected, what="all events handled")
            eventually(lambda: unpublished(database) == 0, what="all facts published")
            assert read_out(bootstrap, len(facts)) == expected
        except AssertionError as error:
            error.add_note(log.read_text(errors="replace")[-5000:])
            raise
        finally:
            code = service.stop()
        assert code == 0, log.read_text(errors="replace")[-5000:]


def more_than(before: int, database: Engine) -> int:
    """How many events are handled, once there are more than before."""

    def count() -> int:
        handled = sum(map(len, effects(database).values()))
        return handled if handled > before else 0

    return eventually(count, interval=0.02, what=f"more than {before} events handled")


def read_out(bootstrap: str, facts: int) -> dict[str, list[int]]:
    """What the service said, as its consumers hear it."""
    found: list[Record] = []
    with closing(KafkaSource(bootstrap, [TOPIC_OUT], group=None)) as source:
        deadline = monotonic() + 60
        while sum(map(len, heard(found).values())) < facts and monotonic() < deadline:
            found.extend(source.poll(0.5))
    return heard(found)
