"""Asking a model server: which replica, what counts as its failure, and when another one may be asked.

Another replica is asked only where the first one did no work: it took no connection, or it answered 404, which means
that it no longer has a model that it confirmed (its server restarted). Anything later could make a model answer twice.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from services.gateway import errors
from services.gateway.balance import Balancer
from services.gateway.link import Link, NothingSentError
from services.gateway.plan import Endpoint, Target
from services.gateway.pool import Pool, origin_of
from services.gateway.request import Headers
from shared.telemetry import get_logger

log = get_logger(__name__)


# What every request to a model server has. An encoded answer could not be read for its tokens.
HEAD = b"content-type: application/json\r\naccept-encoding: identity\r\nx-request-id: %b\r\n"


class Order(NamedTuple):
    """What is asked of a target.

    Attributes:
        unit: fingerprint of the request's unit.
        path: of the request, here and at the model server.
        request: the body as the client sent it.
        body: the same for the model server.
        head: header lines for the model server.
    """

    target: Target
    unit: int
    path: str
    request: bytes
    body: bytes
    head: bytes


class Sink(Protocol):
    """Whoever an answer is for. After `whole` or `failed` nothing more comes."""

    def head(self, status: int, fields: Headers) -> None: ...

    def data(self, part: bytes) -> None: ...

    def whole(self) -> None: ...

    def failed(self, error: errors.ApiError) -> None: ...


class Upstream:
    """Sends requests to the replicas of a target.

    Args:
        ejected: told of each replica that is skipped from now on.
    """

    def __init__(
        self, pool: Pool, balancer: Balancer, read_seconds: float, ejected: Callable[[str], None] = lambda _: None
    ) -> None:
        self.pool = pool
        self.balancer = balancer
        self.read_seconds = read_seconds
        self.ejected = ejected

    def ask(self, order: Order, sink: Sink) -> "Question":
        """Ask the replicas of a target, one after another where that is allowed, until one answers."""
        question = Question(self, order, sink)
        question.begin()
        return question


class Question:
    """One request on its way through the replicas."""

    __slots__ = ("_connecting", "_endpoint", "_failure", "_link", "_order", "_paused", "_sink", "_target", "_tried",
                 "_upstream", "data")

    def __init__(self, upstream: Upstream, order: Order, sink: Sink) -> None:
        self._upstream = upstream
        self._order = order
        self._target = order.target
        self._sink = sink
        # A part of the body goes straight to whom it is for.
        self.data = sink.data
        self._tried: set[str] = set()
        self._endpoint: Endpoint | None = None
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failure: errors.ApiError | None = None
        self._paused = False

    def begin(self) -> None:
        """Ask the next replica; without one, say what was wrong with the last."""
        balancer, now = self._upstream.balancer, time.monotonic()
        endpoint = balancer.choose(self._target.endpoints, self._target.label, now, self._tried)
        if endpoint is None:
            self._sink.failed(self._failure or errors.no_replica(self._target.route, self._target.label))
            return
        self._endpoint = endpoint
        self._tried.add(endpoint.url)
        balancer.started(endpoint.url, self._target.label, now)
        link = self._upstream.pool.take(endpoint.url)
        if link is not None:
            self._send(link)
        else:
            self._connecting = self._upstream.pool.connect(endpoint.url, self._connected, self._refused)

    def cancel(self) -> None:
        """Nobody wants the answer any more. The connection is closed, so that the model server stops working for it."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.abort()
        self._leave()

    def pause(self) -> None:
        """Stop reading the answer."""
        self._paused = True
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Go on reading it."""
        self._paused = False
        if self._link is not None:
            self._link.resume()

    # What the pool says.

    def _connected(self, link: Link) -> None:
        self._connecting = None
        self._upstream.balancer.connected(link.url)
        self._send(link)

    def _refused(self, error: Exception) -> None:
        endpoint = self._leave()
        if self._upstream.balancer.refused(endpoint.url, time.monotonic()):
            self._upstream.ejected(endpoint.replica)
            log.warning("replica takes no connections; skipped for a while", replica=endpoint.replica, url=endpoint.url)
        reason = str(error) or "it did not answer in time"
        self._failure = errors.unreachable(self._target.label, f"{endpoint.replica}: {reason}")
        self.begin()

    def _send(self, link: Link) -> None:
        origin, order = origin_of(link.url), self._order
        self._link = link
        link.ask(b"POST %b%b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            origin.prefix, order.path.encode(), origin.authority, order.head, len(order.body), order.body
        ), self)
        if self._paused:
            link.pause()

    # What the connection says.

    def head(self, status: int, fields: Headers) -> None:
        """An answer has begun."""
        endpoint, link = self._endpoint, self._link
        if endpoint is None or link is None:
            return
        if status == 404:
            link.abort()
            self._leave()
            log.warning("replica does not serve what it confirmed", replica=endpoint.replica, model=self._target.label)
            self._failure = errors.not_loaded(self._target.route, self._target.label)
            self.begin()
            return
        if status >= 500:
            self._failed(endpoint, f"it answered {status}")
        else:
            self._upstream.balancer.answered(endpoint.url, self._target.label)
        self._sink.head(status, fields)

    def whole(self) -> None:
        """Its end."""
        self._leave()
        self._sink.whole()

    def lost(self, error: Exception) -> None:
        """It broke off."""
        endpoint = self._leave()
        if isinstance(error, NothingSentError):
            # A kept connection that its server closed in the same moment. Nobody failed, so the same replica will do.
            self._tried.discard(endpoint.url)
            self.begin()
            return
        self._failed(endpoint, str(error))
        if isinstance(error, TimeoutError):
            self._sink.failed(errors.upstream_timeout(self._target.label, self._upstream.read_seconds))
        else:
            self._sink.failed(errors.upstream_failed(self._target.label, str(error)))

    def _failed(self, endpoint: Endpoint, reason: str) -> None:
        if self._upstream.balancer.failed(endpoint.url, self._target.label, time.monotonic()):
            self._upstream.ejected(endpoint.replica)
            log.warning("replica fails; skipped for a while", replica=endpoint.replica, url=endpoint.url,
                        model=self._target.label, reason=reason)

    def _leave(self) -> Endpoint:
        """Be done with the present replica."""
        endpoint, self._endpoint, self._link = self._endpoint, None, None
        self._connecting = None
        if endpoint is None:
            raise RuntimeError("a question was answered twice")
        self._upstream.balancer.finished(endpoint.url, self._target.label)
        return endpoint
