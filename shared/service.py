"""The frame that every control-plane service runs in.

A service is a `Definition`; `run` gives it migrations, the delivery loops, its own loops, an HTTP server with
``/healthz``, ``/readyz`` and ``/metrics``, and an orderly end on SIGTERM. A loop that raises ends the process with
exit code 1: a supervisor or Kubernetes starts it again, which is simpler to reason about than half a service.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import uvicorn
from alembic.util import CommandError
from fastapi import APIRouter
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.clock import Clock, SystemClock
from shared.collector import leave_alone_what_stays
from shared.db import connect, migrate
from shared.errors import InvalidInputError
from shared.http import build_app
from shared.messaging import ConsumeLoop, Handlers, ProcessLoop, RelayLoop
from shared.messaging.security import KafkaSecurity
from shared.s3 import ArtifactStore, connect_store
from shared.settings import ServiceSettings, load_settings
from shared.telemetry import configure, get_logger

S = TypeVar("S", bound=ServiceSettings)
log = get_logger(__name__)

# Long enough for one handler, one look of a reconcile loop, and the last acknowledgements from Kafka.
SHUTDOWN_SECONDS = 15.0
MIGRATE = "--migrate"


class Loop(Protocol):
    """Something that runs in a thread of its own until `stop` is set."""

    name: str

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; raise to end the process."""
        ...


@dataclass(frozen=True)
class Runtime(Generic[S]):
    """What a service's API and loops are built from.

    Attributes:
        instance: this replica's name, in leases.
    """

    settings: S
    engine: Engine
    store: ArtifactStore
    clock: Clock
    instance: str


@dataclass(frozen=True)
class Definition(Generic[S]):
    """A service: its settings class, migrations, handlers, API and loops."""

    settings: type[S]
    migrations: Path
    handlers: Handlers
    router: Callable[[Runtime[S]], APIRouter] | None = None
    loops: Callable[[Runtime[S]], Sequence[Loop]] | None = None


def run(definition: Definition[S], arguments: Sequence[str]) -> int:
    """Run a service until SIGTERM or SIGINT; the process's exit code.

    Args:
        arguments: of the command line. ``--migrate`` brings the database to the newest schema and ends.
    """
    service = definition.settings.service
    if list(arguments) not in ([], [MIGRATE]):
        sys.stderr.write(f"{service}: unknown arguments {' '.join(arguments)}; {MIGRATE} is the only one there is\n")
        return 2
    settings = load_settings(definition.settings)
    configure(settings)
    engine = connect(settings.database_url)
    if not _migrated(engine, definition.migrations, service):
        return 1
    if arguments:
        engine.dispose()
        log.info("the database has the newest schema", database=str(engine.url))
        return 0
    try:
        store = connect_store(settings)
    except InvalidInputError as error:
        sys.stderr.write(f"{service}: cannot start, the settings are wrong: {error}\n")
        engine.dispose()
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    runtime = Runtime(
        settings=settings,
        engine=engine,
        store=store,
        clock=SystemClock(),
        instance=settings.instance or f"{socket.gethostname()}-{os.getpid()}",
    )
    loops = [*_delivery_loops(definition.handlers, runtime), *(definition.loops(runtime) if definition.loops else [])]
    router = definition.router(runtime) if definition.router else None
    app = build_app(settings, runtime.engine, router)
    leave_alone_what_stays()
    failed = serve(loops, app, settings, stop)
    runtime.engine.dispose()
    return 1 if failed else 0


def _migrated(engine: Engine, migrations: Path, service: str) -> bool:
    """Bring the database to the newest schema; False where it cannot, of which the reason is said."""
    try:
        migrate(engine, migrations)
    except (SQLAlchemyError, CommandError) as error:
        # A revision that is not known is one of a newer version of this service.
        sys.stderr.write(f"{service}: cannot migrate {engine.url}: {error}\n")
        engine.dispose()
        return False
    return True


def serve(loops: Sequence[Loop], app: object, settings: ServiceSettings, stop: threading.Event) -> bool:
    """Run the loops and the HTTP server until `stop`; whether any of them failed."""
    failed = threading.Event()

    def guarded(loop: Loop) -> None:
        try:
            loop.run(stop)
            log.info("loop ended", loop=loop.name)
        except BaseException:
            log.exception("a loop failed; the process ends", loop=loop.name)
            failed.set()
        finally:
            stop.set()

    server = uvicorn.Server(uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.http_host, port=settings.http_port, log_config=None, access_log=False,
        timeout_graceful_shutdown=5, lifespan="off",
    ))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    http = threading.Thread(target=_serve_http, args=(server, stop, failed), name="http", daemon=True)
    threads = [threading.Thread(target=guarded, args=(loop,), name=loop.name, daemon=True) for loop in loops]
    for thread in [*threads, http]:
        thread.start()
    log.info("service started", http=f"{settings.http_host}:{settings.http_port}", loops=[loop.name for loop in loops])
    stop.wait()
    server.should_exit = True
    deadline = SystemClock().now().timestamp() + SHUTDOWN_SECONDS
    for thread in [*threads, http]:
        thread.join(max(0.0, deadline - SystemClock().now().timestamp()))
        if thread.is_alive():
            log.warning("did not end in time", thread=thread.name, seconds=SHUTDOWN_SECONDS)
            failed.set()
    log.info("service stopped")
    return failed.is_set()


def _serve_http(server: uvicorn.Server, stop: threading.Event, failed: threading.Event) -> None:
    try:
        server.run()
        if not stop.is_set():
            log.error("the HTTP server ended by itself; is the port taken?")
            failed.set()
    except SystemExit:
        # uvicorn exits the thread this way when it cannot bind; it has logged the address already.
        failed.set()
    finally:
        stop.set()


def _delivery_loops(handlers: Handlers, runtime: Runtime[S]) -> list[Loop]:
    settings = runtime.settings
    security = KafkaSecurity.of(settings)
    loops: list[Loop] = [
        RelayLoop(
            engine=runtime.engine, bootstrap=settings.kafka_bootstrap, clock=runtime.clock, source=handlers.consumer,
            security=security,
        )
    ]
    if handlers.topics:
        loops += [
            ConsumeLoop(
                engine=runtime.engine, handlers=handlers, bootstrap=settings.kafka_bootstrap, clock=runtime.clock,
                group=f"tuneloop-{handlers.consumer}{settings.kafka_group_suffix}",
                session_timeout_ms=settings.kafka_session_timeout_ms, security=security,
            ),
            ProcessLoop(engine=runtime.engine, handlers=handlers, clock=runtime.clock),
        ]
    return loops
