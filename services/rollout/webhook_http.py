"""One attempt of one HTTP call, bounded in time and in what is read, and what its outcome means."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import httpx

from services.rollout.models import WebhookCall
from services.rollout.webhook_secrets import SecretError, Secrets
from shared.telemetry import get_logger

log = get_logger(__name__)

# What is read and kept of an answer that is not 2xx: enough to say why.
_MOST_BYTES = 2048
_MOST_CHARACTERS = 200
# As Flagger's client; anything else that is not 2xx is an answer, and asking again would not change it.
_FAULTS = frozenset({408, 425, 429})
_LONGEST_RETRY_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        ok: 2xx.
        again: another attempt may help.
        said: for people; never holds the URL.
        after: when the receiver asks for it; None where it did not say.
    """

    ok: bool
    again: bool
    said: str
    after: timedelta | None = None


class Sender:
    """Makes calls.

    Args:
        hosts: shell patterns of the only hosts that may be called; empty for all.
    """

    def __init__(self, secrets: Secrets, hosts: Sequence[str] = ()) -> None:
        self._secrets = secrets
        self._hosts = [host.lower() for host in hosts]

    async def send(self, client: httpx.AsyncClient, call: WebhookCall, now: datetime) -> Outcome:
        """One attempt. It ends within the call's timeout, whatever the receiver does, and raises nothing."""
        try:
            return await self._attempt(client, call, now)
        except SecretError as error:
            return Outcome(ok=False, again=True, said=str(error))
        except TimeoutError:
            return Outcome(ok=False, again=True, said=f"no answer within {call.timeout_seconds:g} s")
        except httpx.HTTPError as error:
            return Outcome(ok=False, again=True, said=_clean(f"it cannot be reached: {error or type(error).__name__}"))
        except Exception as error:
            # Such as a host that no resolver can be asked for. One odd call must not end the others.
            log.exception("a webhook cannot be called", rollout=call.rollout_id, webhook=call.webhook)
            return Outcome(ok=False, again=False, said=f"it cannot be called: {type(error).__name__}")

    async def _attempt(self, client: httpx.AsyncClient, call: WebhookCall, now: datetime) -> Outcome:
        request = self._request(client, call, now)
        if not self._allowed(request.url.host):
            return Outcome(ok=False, again=False, said=f"the host {request.url.host} is not in "
                                                       "TUNELOOP_WEBHOOK_HOSTS of the rollout service")
        async with asyncio.timeout(call.timeout_seconds):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                return await _outcome(response)
            finally:
                await response.aclose()

    def _request(self, client: httpx.AsyncClient, call: WebhookCall, now: datetime) -> httpx.Request:
        url = call.url if call.url_from is None else self._secrets.url(call.url_from)
        headers = {
            "content-type": "application/json", "accept-encoding": "identity", "user-agent": "tuneloop",
            "webhook-id": call.message_id, "webhook-timestamp": str(int(now.timestamp())),
        }
        if call.secret is not None:
            headers["webhook-signature"] = self._secrets.sign(call.secret, call.message_id, now, call.body)
        return client.build_request("POST", url or "", content=call.body.encode(), headers=headers)

    def _allowed(self, host: str) -> bool:
        return not self._hosts or any(fnmatchcase(host.lower(), pattern) for pattern in self._hosts)


async def _outcome(response: httpx.Response) -> Outcome:
    status = response.status_code
    if response.is_success:
        return Outcome(ok=True, again=False, said=f"answered {status}")
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= _MOST_BYTES:
            break
    words = _clean(body[:_MOST_BYTES].decode(errors="replace"))
    return Outcome(
        ok=False, again=status in _FAULTS or status >= 500, after=_retry_after(response.headers.get("retry-after")),
        said=f"answered {status}" + (f": {words}" if words else ""),
    )


def _retry_after(value: str | None) -> timedelta | None:
    """The header in seconds; its other form, a date, is rare and left out."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    return min(timedelta(seconds=int(value[:9])), _LONGEST_RETRY_AFTER)


def _clean(text: str) -> str:
    """On one short line, without what a terminal would obey."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
