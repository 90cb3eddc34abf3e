"""Wires the gateway together and runs it: one event loop for requests, two threads for the route table."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.applications import Starlette

from services.gateway.api import build_app
from services.gateway.balance import Balancer
from services.gateway.keeper import TableKeeper
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, compile_plan
from services.gateway.proxy import Proxy
from services.gateway.settings import GatewaySettings
from services.gateway.store import TableStore
from services.gateway.table import RouteTable
from services.gateway.units import UnitCounter
from services.gateway.upstream import Upstream, new_session
from shared.messaging import TableConsumer
from shared.telemetry import get_logger

log = get_logger(__name__)

_KEEPALIVE_SECONDS = 75
_THREADS_SECONDS = 5.0


class Gateway:
    """What is served now, and the parts that serve it."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.plan = Plan()
        self.metrics = GatewayMetrics()
        self._latest = RouteTable()
        self._taking = False
        self._units = UnitCounter(settings.max_units)
        self._balancer = Balancer(failures=settings.eject_after_failures, seconds=settings.eject_seconds)

    def use(self, table: RouteTable) -> None:
        """Serve by this table from the next request on. Only on the event loop (or before it runs)."""
        plan = compile_plan(table)
        self.metrics.use(plan)
        self._balancer.keep_only(plan.endpoints())
        present = {(name, target.label): route.spec.salt for name, route in plan.routes.items()
                   for target in route.targets.values()}
        self._units.keep_only(set(present))
        for (name, label), salt in present.items():
            self.metrics.target(name, label).units.set(self._units.count(name, label, salt))
        self.plan = plan

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in flight."""
        loop = asyncio.get_running_loop()
        keeper = TableKeeper(
            TableStore(self.settings.state_dir),
            lambda topics, on_event, on_caught_up: TableConsumer(
                self.settings.kafka_bootstrap, topics, on_event, on_caught_up=on_caught_up
            ),
            lambda table: self._use_soon(loop, table),
        )
        self.use(keeper.load())
        async with new_session(self.settings) as session:
            upstream = Upstream(session, self._balancer, self.settings.read_timeout_seconds)
            proxy = Proxy(self.settings, self.metrics, self._units, upstream, lambda: self.plan)
            keeper.start()
            try:
                app = build_app(proxy, self.metrics, lambda: self.plan, lambda: keeper.complete)
                await self._serve(app, listener)
            finally:
                await asyncio.to_thread(keeper.stop, _THREADS_SECONDS)

    def _use_soon(self, loop: asyncio.AbstractEventLoop, table: RouteTable) -> None:
        """From the consumer's thread: have the loop take up the newest table, once for a burst of facts."""
        self._latest = table
        if not self._taking:
            self._taking = True
            # A fact that arrives while the process ends finds the loop closed, and nobody to serve.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._taking = False
        self.use(self._latest)

    async def _serve(self, app: Starlette, listener: socket.socket) -> None:
        server = _Server(uvicorn.Config(
            app, loop="none", http="httptools", lifespan="off", log_config=None, access_log=False,
            server_header=False, timeout_keep_alive=_KEEPALIVE_SECONDS,
            timeout_graceful_shutdown=self.settings.shutdown_seconds,
        ))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop, signal.Signals(number).name)
        host, port = listener.getsockname()[:2]
        log.info("gateway started", http=f"{host}:{port}")
        await server.serve(sockets=[listener])
        log.info("gateway stopped")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal and not with exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self, reason: str) -> None:
        """Take no new connections, finish the requests in flight."""
        log.info("stopping", signal=reason)
        self.should_exit = True


def bind(settings: GatewaySettings) -> socket.socket:
    """The listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    return socket.create_server((settings.http_host, settings.http_port), family=family, backlog=2048)
