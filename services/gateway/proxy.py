"""The data path of one door (``/v1/chat/completions`` or ``/v1/completions``): refuse, choose, ask, pass on, count.

A plain ASGI application, because it must see the client leave while it waits for a model server.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from services.gateway import errors
from services.gateway.exchange import Exchange
from services.gateway.http import ClientLeftError, headers_of, read_body, send_error, until_client_left
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, Target
from services.gateway.request import Headers, parse, request_id, unit_of
from services.gateway.settings import GatewaySettings
from services.gateway.split import fingerprint, position
from services.gateway.units import UnitCounter
from services.gateway.upstream import Upstream


class Proxy:
    """Serves inference requests by the present plan.

    Args:
        plan: gives the plan in effect now.
    """

    def __init__(
        self, settings: GatewaySettings, metrics: GatewayMetrics, units: UnitCounter, upstream: Upstream,
        plan: Callable[[], Plan],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._units = units
        self._plan = plan
        self._upstream = upstream
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        identity = request_id(headers)
        try:
            if self._in_flight >= self._settings.max_in_flight:
                raise errors.overloaded(self._settings.max_in_flight)
            self._in_flight += 1
            self._metrics.in_flight.set(self._in_flight)
            try:
                exchange = await self._prepare(scope["path"], headers, identity, receive, send)
                await run_while_client_stays(exchange, receive)
            finally:
                self._in_flight -= 1
                self._metrics.in_flight.set(self._in_flight)
        except errors.ApiError as error:
            self._metrics.unrouted.labels(error.code).inc()
            await send_error(send, error, [(b"x-tuneloop-request-id", identity.encode())])
        except ClientLeftError:
            self._metrics.unrouted.labels("client_left").inc()

    async def _prepare(self, path: str, headers: Headers, identity: str, receive: Receive, send: Send) -> Exchange:
        """Read the request and choose its target.

        Raises:
            ApiError: the request cannot be given to any model.
        """
        body = await read_body(
            receive, headers, limit=self._settings.max_body_bytes, seconds=self._settings.body_timeout_seconds
        )
        request = parse(body)
        target = self._choose(request.route, unit_of(headers, request.user, identity))
        onward = {
            "content-type": "application/json", "accept-encoding": "identity", "x-request-id": identity,
            **{name: headers[name.encode()].decode("latin-1") for name in ("accept", "traceparent", "tracestate")
               if name.encode() in headers},
        }
        return Exchange(
            target=target, metrics=self._metrics.target(target.route, target.label), upstream=self._upstream, path=path,
            body=request.body_for(target.upstream_model), headers=onward, identity=identity, send=send,
            max_response_bytes=self._settings.max_response_bytes, traced=bool(self._settings.otlp_endpoint),
        )

    def _choose(self, route: str, unit: str) -> Target:
        plan = self._plan()
        chosen = plan.routes.get(route)
        if chosen is None:
            raise errors.unknown_model(route, plan.routes) if plan.routes else errors.no_table()
        mark = fingerprint(chosen.spec.salt, unit)
        target = chosen.choose(position(mark))
        count = self._units.add(route, target.label, chosen.spec.salt, mark)
        self._metrics.target(route, target.label).units.set(count)
        return target


async def run_while_client_stays(exchange: Exchange, receive: Receive) -> None:
    """Run an exchange to its end, or until its client leaves, which ends the model server's work too."""
    work = asyncio.ensure_future(exchange.run())
    watch = asyncio.ensure_future(until_client_left(receive))
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            exchange.client_left = True
            work.cancel()
            await asyncio.wait((work,))
    finally:
        watch.cancel()
        if not work.done():
            # The server itself is cutting requests short at the end of its grace period.
            work.cancel()
            await asyncio.wait((work,))
    if not work.cancelled():
        work.result()
