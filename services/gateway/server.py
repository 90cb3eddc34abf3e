"""Wires the gateway together and runs it: one event loop for requests, threads for all that may take long."""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from services.gateway.api import build_app
from services.gateway.asgi import AsgiServer
from services.gateway.balance import Balancer
from services.gateway.call import Call, Work
from services.gateway.doorkeeper import Admission
from services.gateway.features import Features
from services.gateway.flush import Flusher
from services.gateway.http_server import HttpServer
from services.gateway.keeper import TableKeeper
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, compile_plan
from services.gateway.pool import Pool
from services.gateway.proxy import DOORS, Proxy
from services.gateway.record import Observer
from services.gateway.settings import GatewaySettings
from services.gateway.site import Limits, Site
from services.gateway.store import TableStore
from services.gateway.table import RouteTable
from services.gateway.timers import Timers
from services.gateway.units import UnitCounter
from services.gateway.upstream import Upstream
from shared.collector import leave_alone_what_stays
from shared.messaging import TableConsumer
from shared.messaging.security import KafkaSecurity
from shared.telemetry import get_logger

log = get_logger(__name__)

_KEEPALIVE_SECONDS = 75
_THREADS_SECONDS = 5.0


class Gateway:
    """What is served now, and the parts that serve it.

    Args:
        admission: looks at the headers of each request before its body is read, instead of the API keys.
        observer: told of each exchange, instead of capture, feedback and shadows.

    Raises:
        InvalidInputError: the file of API keys is not good.
    """

    def __init__(
        self, settings: GatewaySettings, *, admission: Admission | None = None, observer: Observer | None = None
    ) -> None:
        self.settings = settings
        self.plan = Plan()
        self.metrics = GatewayMetrics(max_units=settings.max_units)
        self.timers = Timers()
        flusher = Flusher()
        silence = settings.read_timeout_seconds
        self.pool = Pool(
            self.timers, flusher, connect_seconds=settings.connect_timeout_seconds, read_seconds=silence
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest = RouteTable()
        self._taking = False
        self._keeper = TableKeeper(
            TableStore(settings.state_dir),
            lambda topics, on_event, on_caught_up: TableConsumer(
                settings.kafka_bootstrap, topics, on_event, on_caught_up=on_caught_up,
                security=KafkaSecurity.of(settings),
            ),
            self._use_soon,
        )
        self._units = UnitCounter(settings.max_units)
        self._balancer = Balancer(failures=settings.eject_after_failures, seconds=settings.eject_seconds)
        self.features = Features(settings, self.metrics, self.timers, flusher, lambda: self.plan, admission=admission)
        upstream = Upstream(self.pool, self._balancer, silence, self.metrics.ejected)
        self.proxy = Proxy(
            settings, self.metrics, self._units, upstream, lambda: self.plan,
            admission=self.features.admission, observer=observer or self.features,
        )
        self.doors = AsgiServer(build_app(
            self.metrics, lambda: self.plan, lambda: self._keeper.complete, self.features.admission,
            self.features.feedback.post,
        ))
        self.site = Site(
            limits=limits_of(settings), accept=by_door(self.proxy, self.doors), refused=self.proxy.refused,
            timers=self.timers, flusher=flusher,
        )

    def use(self, table: RouteTable) -> None:
        """Serve by this table from the next request on. Only on the event loop (or before it runs)."""
        plan = compile_plan(table)
        self.metrics.use(plan)
        self._balancer.keep_only(plan.endpoints())
        self.features.shadow.use(plan)
        present = {(name, target.label): route.spec.salt for name, route in plan.routes.items()
                   for target in route.targets.values()}
        self._units.keep_only(set(present))
        for (name, label), salt in present.items():
            self.metrics.target(name, label).units.value = self._units.count(name, label, salt)
        self.plan = plan

    async def run(self, listener: socket.socket) -> None:
        """Follow the route table and serve until SIGTERM or SIGINT."""
        self._loop = loop = asyncio.get_running_loop()
        self.use(self._keeper.load())
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, stop, signal.Signals(number).name)
        self._keeper.start()
        leave_alone_what_stays()
        try:
            await self.serve(listener, stop)
        finally:
            await asyncio.to_thread(self._keeper.stop, _THREADS_SECONDS)

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve the present plan until `stop`, then finish what is in flight."""
        ticking = asyncio.get_running_loop().create_task(self.timers.run())
        server = HttpServer(self.site)
        self.features.start()
        await server.start(listener)
        host, port = listener.getsockname()[:2]
        log.info("gateway started", http=f"{host}:{port}")
        await stop.wait()
        await server.stop(self.settings.shutdown_seconds)
        self.features.close()
        await asyncio.to_thread(self.features.stop, _THREADS_SECONDS)
        self.pool.close()
        ticking.cancel()
        log.info("gateway stopped")

    def _use_soon(self, table: RouteTable) -> None:
        """From the consumer's thread: have the loop take up the newest table, once for a burst of facts."""
        self._latest = table
        if self._loop is not None and not self._taking:
            self._taking = True
            # A fact that arrives while the process ends finds the loop closed, and nobody to serve.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._taking = False
        self.use(self._latest)


def _stop(stop: asyncio.Event, reason: str) -> None:
    log.info("stopping", signal=reason)
    stop.set()


def limits_of(settings: GatewaySettings) -> Limits:
    """What a client may take."""
    return Limits(
        head_bytes=settings.max_head_bytes, body_bytes=settings.max_body_bytes,
        head_seconds=settings.head_timeout_seconds, body_seconds=settings.body_timeout_seconds,
        idle_seconds=_KEEPALIVE_SECONDS, write_seconds=settings.write_timeout_seconds,
        connections=settings.max_connections,
    )


def by_door(proxy: Proxy, others: AsgiServer) -> Callable[[Call], Work]:
    """The data path for its own doors, the web application for all others."""
    def accept(call: Call) -> Work:
        if call.head.method == b"POST" and call.head.path in DOORS:
            return proxy.accept(call)
        return others.accept(call)

    return accept


def bind(settings: GatewaySettings) -> socket.socket:
    """The listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    return socket.create_server((settings.http_host, settings.http_port), family=family, backlog=2048)
