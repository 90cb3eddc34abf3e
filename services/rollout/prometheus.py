"""A thin client of Prometheus' HTTP API that never takes silence for good news.

Counters are read with a *range selector in an instant query* (``metric{...}[5m]``): it answers the raw samples with the
times at which they were scraped. A plain instant vector carries the time of the query instead, so that a gateway which
died four minutes ago would look fresh.

Whatever goes wrong becomes a `NoData` with its reason: no answer, a slow one, an HTTP or query error, half an answer,
nothing found, or nothing fresh. Values are judged in readings.py, where their meaning is known.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx
import orjson

from services.rollout.samples import NoData, Sample

# As Prometheus' own lookback: long enough to say how old the newest sample is, short enough to be a small answer.
_LOOKBACK_SECONDS = 300


class Prometheus:
    """Reads the newest samples of series.

    Args:
        url: base URL, for example ``http://prometheus:9090``.
        timeout: seconds for one query.
        stale_after: seconds after which a sample is too old to conclude anything from; some scrape intervals.
        transport: instead of the network.
    """

    def __init__(
        self, url: str, *, timeout: float, stale_after: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        # Prometheus is a neighbour; a proxy for the outside world must not be asked for it.
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=timeout, trust_env=False, transport=transport)
        self._url = url
        self._timeout = timeout
        self._stale_after = stale_after

    def close(self) -> None:
        self._http.close()

    def newest(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        """The newest sample of every series that `selector` matches and that is fresh; or why there are none.

        A series that went stale beside fresh ones is left out: its gateway is gone, and the others tell the truth.
        """
        try:
            samples = self._samples(selector, now)
        except _FaultError as fault:
            return fault.no_data
        if not samples:
            return NoData("empty", f"Prometheus has no series {selector}")
        fresh = [sample for sample in samples if now.timestamp() - sample.at <= self._stale_after]
        if not fresh:
            age = now.timestamp() - max(sample.at for sample in samples)
            return NoData("stale", f"the newest sample of {selector} is {age:.0f} s old, over {self._stale_after:g} s")
        return fresh

    def fresh(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        """As `newest`, but it may answer nothing; cheaper where many series match, because no old samples are sent."""
        try:
            return self._samples(selector, now, self._stale_after)
        except _FaultError as fault:
            return fault.no_data

    def recent(self, selector: str, now: datetime) -> Sequence[Sample] | NoData:
        """The newest sample of every series that had one in the last five minutes, fresh or not; it may be nothing."""
        try:
            return self._samples(selector, now)
        except _FaultError as fault:
            return fault.no_data

    def _samples(self, selector: str, now: datetime, lookback: float = _LOOKBACK_SECONDS) -> list[Sample]:
        try:
            answer = self._http.post(
                "/api/v1/query",
                data={"query": f"{selector}[{lookback * 1000:.0f}ms]", "time": f"{now.timestamp():.3f}"},
            )
        except httpx.TimeoutException as error:
            raise self._fault("timeout", f"did not answer within {self._timeout:g} s") from error
        except httpx.HTTPError as error:
            raise self._fault("unreachable", f"cannot be reached: {error}") from error
        try:
            # One answer may hold the series of hundreds of routes, and the standard library takes four times as long.
            body: Any = orjson.loads(answer.content)
        except ValueError as error:
            raise self._fault("http_error", f"answered HTTP {answer.status_code} without JSON") from error
        if answer.status_code != 200 or not isinstance(body, dict) or body.get("status") != "success":
            detail = body.get("error") if isinstance(body, dict) else None
            raise self._fault("query_error", f"answered HTTP {answer.status_code}: {detail or 'no reason given'}")
        if warnings := body.get("warnings"):
            # Such as a store behind Prometheus that did not answer: what is there is true, and what is missing unknown.
            raise self._fault("partial", f"answered only in part: {warnings}")
        try:
            return [_newest(series) for series in body["data"]["result"]]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._fault("malformed", f"answered something else than samples: {error!r}") from error

    def _fault(self, kind: str, what: str) -> "_FaultError":
        return _FaultError(NoData(kind, f"Prometheus at {self._url} {what}"))


class _FaultError(Exception):
    def __init__(self, no_data: NoData) -> None:
        super().__init__(no_data.reason)
        self.no_data = no_data


def _newest(series: Any) -> Sample:
    at, value = series["values"][-1]
    labels = dict(zip(series["metric"], map(str, series["metric"].values()), strict=True))
    labels.pop("__name__", None)
    return Sample(labels=labels, value=float(value), at=float(at))
