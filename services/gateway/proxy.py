"""The data path's doors (``/v1/chat/completions`` and ``/v1/completions``): admit, refuse, choose, ask."""

from collections.abc import Callable

from services.gateway import errors
from services.gateway.call import Call
from services.gateway.doorkeeper import Admission, Caller, admit_anyone
from services.gateway.exchange import Exchange
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, RoutePlan
from services.gateway.record import Observer
from services.gateway.request import parse, unit_of
from services.gateway.settings import GatewaySettings
from services.gateway.split import fingerprint, position
from services.gateway.tracing import Tracer
from services.gateway.units import UnitCounter
from services.gateway.upstream import HEAD, Order, Upstream
from services.gateway.wire import passed

DOORS = ("/v1/chat/completions", "/v1/completions")

_TRACEPARENT = b"traceparent"
_FORWARDED = (b"accept", b"tracestate")

class Proxy:
    """Serves inference requests by the present plan.

    Args:
        plan: gives the plan in effect now.
        admission: says who asks, by the headers, before the body is read.
        observer: told of every exchange.
    """

    def __init__(
        self, settings: GatewaySettings, metrics: GatewayMetrics, units: UnitCounter, upstream: Upstream,
        plan: Callable[[], Plan], *, admission: Admission = admit_anyone, observer: Observer | None = None,
    ) -> None:
        self.metrics = metrics
        self.upstream = upstream
        self.in_flight = 0
        self._settings = settings
        self._units = units
        self._plan = plan
        self._admission = admission
        self._observer = observer
        self._tracer = Tracer() if settings.otlp_endpoint else None
        # With a tracer the model server continues the gateway's span.
        self._forwarded = _FORWARDED if self._tracer is not None else (*_FORWARDED, _TRACEPARENT)
        metrics.in_flight.set_function(lambda: self.in_flight)

    def accept(self, call: Call) -> "Inference":
        """The work of a call whose head was read.

        Raises:
            ApiError: it is not to be served; that is counted.
        """
        try:
            if self.in_flight >= self._settings.max_in_flight:
                raise errors.overloaded(self._settings.max_in_flight)
            caller = self._admission(call.head.fields)
        except errors.ApiError as error:
            self.refused(error)
            raise
        self.in_flight += 1
        return Inference(self, call, caller)

    def refused(self, error: errors.ApiError) -> None:
        """Count a request that got no target."""
        self.metrics.unrouted.labels(error.code).value += 1

    def order(self, call: Call, caller: Caller, raw: bytes) -> Order:
        """Read a request and choose its target.

        Raises:
            ApiError: the request cannot be given to any model.
        """
        fields = call.head.fields
        request = parse(raw)
        chosen = self._route(request.route, caller)
        unit = unit_of(fields, request.user)
        mark = fingerprint(chosen.spec.salt, unit or call.identity)
        target = chosen.choose(position(mark))
        body = request.body_for(target.upstream_model)
        count, new = self._units.add(request.route, target.label, chosen.spec.salt, mark)
        if new:
            self.metrics.unit_events.served(request.route, target.label, mark, named=bool(unit))
        self.metrics.target(request.route, target.label).units.value = count
        head = HEAD % call.identity.encode() + passed(fields, self._forwarded)
        return Order(target, mark, call.head.path, raw, body, head)

    def exchange(self, order: Order, call: Call, done: Callable[[], None]) -> Exchange:
        """The exchange of an order, not begun."""
        if self._tracer is not None:
            order, done = self._tracer.trace(order, call.head.fields.get(_TRACEPARENT, b""), done)
        target = order.target
        return Exchange(
            order, call, self.metrics.target(target.route, target.label), finished=done,
            max_response_bytes=self._settings.max_response_bytes, observer=self._observer,
        )

    def _route(self, name: str, caller: Caller) -> RoutePlan:
        """A route that the caller may not use is one that does not exist."""
        plan = self._plan()
        chosen = plan.routes.get(name)
        if chosen is not None and caller.may_use(name):
            return chosen
        if not plan.routes:
            raise errors.no_table()
        raise errors.unknown_model(name, [route for route in plan.routes if caller.may_use(route)])


class Inference:
    """One call: waiting for its body, then an exchange."""

    __slots__ = ("_call", "_caller", "_exchange", "_proxy")

    def __init__(self, proxy: Proxy, call: Call, caller: Caller) -> None:
        self._proxy = proxy
        self._call = call
        self._caller = caller
        self._exchange: Exchange | None = None

    def start(self, body: bytes) -> None:
        """The request is whole."""
        try:
            order = self._proxy.order(self._call, self._caller, body)
        except errors.ApiError as error:
            self.refused(error)
            self._call.respond_error(error, self._call.mark)
            return
        self._exchange = self._proxy.exchange(order, self._call, self._done)
        self._exchange.begin(self._proxy.upstream)

    def refused(self, error: errors.ApiError) -> None:
        """It will never get a target."""
        self._done()
        self._proxy.refused(error)

    def client_left(self) -> None:
        """Nobody waits any more."""
        if self._exchange is not None:
            self._exchange.client_left()
        else:
            self._done()
            self._proxy.metrics.unrouted.labels("client_left").value += 1

    def cut(self, error: errors.ApiError) -> None:
        """The process ends."""
        if self._exchange is not None:
            self._exchange.cut(error)

    def pause(self) -> None:
        """The client reads too slowly."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._exchange is not None:
            self._exchange.resume()

    def _done(self) -> None:
        self._proxy.in_flight -= 1
