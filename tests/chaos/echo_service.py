"""The echo service as a process of its own, for tests that kill it: ``echo_service.py DATABASE_URL BOOTSTRAP``."""

import signal
import sys
import threading

from shared.clock import SystemClock
from shared.db import connect
from shared.messaging import ConsumeLoop, ProcessLoop, RelayLoop
from tests.support.echo import echo_handlers


def main(database_url: str, bootstrap: str) -> int:
    """Run until SIGTERM, or until a loop fails."""
    engine, handlers, clock, stop = connect(database_url), echo_handlers(), SystemClock(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    loops: list[ConsumeLoop | ProcessLoop | RelayLoop] = [
        ConsumeLoop(
            engine=engine, handlers=handlers, bootstrap=bootstrap, group="echo", clock=clock, session_timeout_ms=2000
        ),
        ProcessLoop(engine=engine, handlers=handlers, clock=clock),
        RelayLoop(engine=engine, bootstrap=bootstrap, clock=clock, source="echo"),
    ]
    failed = threading.Event()

    def guarded(loop: ConsumeLoop | ProcessLoop | RelayLoop) -> None:
        try:
            loop.run(stop)
        except BaseException:
            failed.set()
            raise
        finally:
            stop.set()

    threads = [threading.Thread(target=guarded, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return int(failed.is_set())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
