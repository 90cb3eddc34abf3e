"""A span for each exchange, where traces are exported."""

from collections.abc import Callable

from services.gateway.upstream import Order
from shared.telemetry import begin_span, traceparent_of


class Tracer:
    """Continues the client's trace, or begins one."""

    def trace(self, order: Order, given: bytes, done: Callable[[], None]) -> tuple[Order, Callable[[], None]]:
        """The order with the span's context for the model server, and a `done` that ends the span, too.

        Args:
            given: the client's ``traceparent``; empty where it sent none.
        """
        target = order.target
        span = begin_span("inference", given.decode("latin-1") or None, route=target.route, model=target.label)

        def ended() -> None:
            span.end()
            done()

        return order._replace(head=b"%btraceparent: %b\r\n" % (order.head, traceparent_of(span).encode())), ended
