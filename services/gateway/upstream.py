"""Asking a model server: which replica, what counts as its failure, and when another one may be asked.

Another replica is asked only where the first one did no work: it took no connection, or it answered 404, which means
that it no longer has a model that it confirmed (its server restarted). Anything later could make a model answer twice.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from services.gateway import errors
from services.gateway.balance import Balancer
from services.gateway.plan import Endpoint, Target
from services.gateway.settings import GatewaySettings
from shared.telemetry import get_logger

log = get_logger(__name__)

# uvicorn, and with it vLLM, closes idle connections after 5 s. Letting go first avoids sending into a closing one.
_KEEPALIVE_SECONDS = 4.0


def new_session(settings: GatewaySettings) -> aiohttp.ClientSession:
    """The client for model servers. Connections are as many as requests in flight, which the proxy bounds."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_seconds, sock_read=settings.read_timeout_seconds
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent",),
    )


class Upstream:
    """Sends requests to the replicas of a target."""

    def __init__(self, session: aiohttp.ClientSession, balancer: Balancer, read_timeout: float) -> None:
        self._session = session
        self._balancer = balancer
        self._read_timeout = read_timeout

    @asynccontextmanager
    async def ask(
        self, target: Target, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of one replica, its headers read. Leaving before its end closes the connection.

        Raises:
            ApiError: 502, 503 or 504 where no replica gave one.
        """
        if not target.endpoints:
            raise errors.no_replica(target.route, target.label)
        tried: set[str] = set()
        failure = errors.no_replica(target.route, target.label)
        while endpoint := self._balancer.choose(target.endpoints, time.monotonic(), tried):
            tried.add(endpoint.url)
            self._balancer.started(endpoint.url)
            try:
                answer = await self._post(target, endpoint, path, body, headers)
                if isinstance(answer, errors.ApiError):
                    failure = answer
                    continue
                try:
                    yield answer
                finally:
                    # A fully read answer has given its connection back by now, and this does nothing.
                    answer.close()
                return
            finally:
                self._balancer.finished(endpoint.url)
        raise failure

    async def _post(
        self, target: Target, endpoint: Endpoint, path: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse | errors.ApiError:
        """The answer of `endpoint`, or the error after which another replica may be asked."""
        try:
            answer = await self._session.post(endpoint.url + path, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if self._balancer.refused(endpoint.url, time.monotonic()):
                log.warning("replica takes no connections; skipped for a while", replica=endpoint.replica,
                            url=endpoint.url)
            return errors.unreachable(target.label, f"{endpoint.replica}: {error}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self.failure(target, error) from error
        self._balancer.connected(endpoint.url)
        if answer.status == 404:
            answer.close()
            log.warning("replica does not serve what it confirmed", replica=endpoint.replica, model=target.label)
            return errors.not_loaded(target.route, target.label)
        return answer

    def failure(self, target: Target, error: BaseException) -> errors.ApiError:
        """What a client is told about a failure after the request was sent."""
        if isinstance(error, TimeoutError):
            return errors.upstream_timeout(target.label, self._read_timeout)
        return errors.upstream_failed(target.label, str(error) or type(error).__name__)
