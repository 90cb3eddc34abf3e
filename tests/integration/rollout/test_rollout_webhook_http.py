"""Single calls against a real server that misbehaves: each ends in time, and says what was wrong."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from services.rollout.models import WebhookCall
from services.rollout.webhook_http import Outcome, Sender
from services.rollout.webhook_secrets import Secrets
from tests.support.ports import free_port
from tests.support.webhook_receiver import WebhookReceiver, receive

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with receive() as made:
        yield made


def send(url: str, *, hosts: tuple[str, ...] = (), secrets: Secrets | None = None, **changes: Any) -> Outcome:
    values = {"id": "a", "state": "ask", "rollout_id": "r", "webhook": "w", "type": "event", "message_id": "msg_1",
              "url": url, "timeout_seconds": 10.0, "most_attempts": 1, "body": '{"a":"ü"}', "created_at": NOW}
    row = WebhookCall(**{**values, **changes})

    async def once() -> Outcome:
        async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113 - what bounds it is tested here
            return await Sender(secrets or Secrets(None), hosts).send(client, row, NOW)

    return asyncio.run(once())


@pytest.mark.parametrize(("answer", "ok", "again", "said"), [
    (200, True, False, "answered 200"), (204, True, False, "answered 204"),
    (500, False, True, "answered 500"), ((503, "later"), False, True, "answered 503: later"),
    (429, False, True, "answered 429"), (408, False, True, "answered 408"),
    ((403, "frozen\n until \x1b[31mMonday"), False, False, "answered 403: frozen until [31mMonday"),
    (404, False, False, "answered 404"), ((400, "x" * 5000), False, False, f"answered 400: {'x' * 199}…"),
])
def test_what_each_answer_means(
    answer: int | tuple[int, str], ok: bool, again: bool, said: str, receiver: WebhookReceiver
) -> None:
    receiver.answers["/"] = [answer]
    assert send(f"{receiver.url}/") == Outcome(ok=ok, again=again, said=said)


def test_what_is_sent(receiver: WebhookReceiver) -> None:
    send(f"{receiver.url}/hook?a=b")
    [got] = receiver.got("/hook?a=b")
    assert got.body == '{"a":"ü"}'.encode()
    expected = {"content-type": "application/json", "webhook-id": "msg_1", "webhook-timestamp": "1772323200"}
    assert expected.items() <= got.headers.items()
    assert "webhook-signature" not in got.headers


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_receiver_that_never_ends_its_answer_ends_at_the_timeout(how: str, receiver: WebhookReceiver) -> None:
    receiver.answers["/"] = [how]
    outcome = send(f"{receiver.url}/", timeout_seconds=0.4)
    assert outcome == Outcome(ok=False, again=True, said="no answer within 0.4 s")


def test_nobody_listens() -> None:
    outcome = send(f"http://127.0.0.1:{free_port()}/")
    assert (outcome.ok, outcome.again) == (False, True)
    assert outcome.said.startswith("it cannot be reached: ")


def test_a_host_that_does_not_exist() -> None:
    outcome = send("http://no-such-host.invalid/")
    assert (outcome.ok, outcome.again) == (False, True)
    assert outcome.said.startswith("it cannot be reached: ")


@pytest.mark.parametrize("url", ["http://[::1/", "http://\u2100\u2101/"])
def test_what_no_resolver_can_be_asked_for_is_given_up(url: str) -> None:
    outcome = send(url)
    assert (outcome.ok, outcome.again) == (False, False)
    assert outcome.said.startswith("it cannot be called: ")


def hang_up(server: socket.socket) -> None:
    server.accept()[0].close()


def test_somebody_who_hangs_up_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=hang_up, args=(server,), daemon=True)
        thread.start()
        outcome = send(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join(10)
    assert (outcome.ok, outcome.again) == (False, True)


def test_a_certificate_that_nobody_vouches_for_is_no_answer() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with receive(context) as receiver:
        outcome = send(f"{receiver.url}/")
        assert (outcome.ok, outcome.again) == (False, True)
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.said
        assert receiver.received == []


def test_redirects_are_not_followed(receiver: WebhookReceiver) -> None:
    receiver.answers["/"] = [302]
    receiver.headers["location"] = f"{receiver.url}/elsewhere"
    assert send(f"{receiver.url}/") == Outcome(ok=False, again=False, said="answered 302")
    assert receiver.got("/elsewhere") == []


@pytest.mark.parametrize(("value", "after"), [("7", 7), ("999999", 3600), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_retry_after_is_heeded(value: str, after: int | None, receiver: WebhookReceiver) -> None:
    receiver.answers["/"], receiver.headers["retry-after"] = [503], value
    assert send(f"{receiver.url}/").after == (None if after is None else timedelta(seconds=after))


def test_only_hosts_that_are_allowed_are_called(receiver: WebhookReceiver) -> None:
    url = f"{receiver.url}/"
    outcome = send(url, hosts=("*.example.com",))
    assert outcome == Outcome(ok=False, again=False, said="the host 127.0.0.1 is not in TUNELOOP_WEBHOOK_HOSTS of the "
                                                          "rollout service")
    assert receiver.received == []
    assert send(url, hosts=("*.example.com", "127.0.0.*")).ok


def test_without_its_secret_nothing_is_sent_and_it_is_tried_again(receiver: WebhookReceiver, tmp_path: Path) -> None:
    outcome = send(f"{receiver.url}/", secret="ops", secrets=Secrets(tmp_path))
    assert (outcome.ok, outcome.again, receiver.received) == (False, True, [])
    assert outcome.said == f"the webhook secret ops cannot be read from {tmp_path}: No such file or directory"
