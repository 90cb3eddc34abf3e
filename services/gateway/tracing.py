"""A span for each exchange, where traces are exported."""

from collections.abc import Callable

from services.gateway.upstream import Order
from shared.telemetry import begin_span, traceparent_of


class Tracer:
    """Continues the client's trace, or begins one."""

    def trace(self, order: Order, done: Callable[[], None]) -> tuple[Order, Callable[[], None]]:
        """The order with the span's context for the model server, and a `done` that ends the span, too."""
        given = dict(order.headers).get(b"traceparent", b"").decode("latin-1")
        target = order.target
        span = begin_span("inference", given or None, route=target.route, model=target.label)
        others = [header for header in order.headers if header[0] != b"traceparent"]

        def ended() -> None:
            span.end()
            done()

        return order._replace(headers=[*others, (b"traceparent", traceparent_of(span).encode())]), ended
