"""What webhooks are made of: signatures and their keys, when a call is made again, and what is refused at the door."""

import base64
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from services.rollout.__main__ import build_loops
from services.rollout.courier import LONGEST_DELAY, after_attempt, delay_after, word_of
from services.rollout.models import WebhookCall
from services.rollout.settings import RolloutSettings
from services.rollout.webhook_http import Outcome
from services.rollout.webhook_secrets import SecretError, Secrets
from shared.clock import SystemClock
from shared.db import connect
from shared.s3 import connect_store
from shared.service import Runtime
from shared.webhooks import Notification, Webhook, receiver_problems, url_problem, webhook_problems

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
PAGE = Path(__file__).parents[3] / "docs" / "rollouts.md"


def documented(now: Callable[[], float] = time.time) -> Callable[..., bool]:
    """The function in docs/rollouts.md, as a reader would copy it, by a clock."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is ours
    names["time"] = SimpleNamespace(time=now)
    verified: Callable[..., bool] = names["verified"]
    return verified


def headers(folder: Path, body: str, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Secrets(folder).sign("ops", "msg_1", at, body)
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def test_the_documented_function_and_the_library_accept_what_we_sign(tmp_path: Path) -> None:
    (tmp_path / "ops").write_text(KEY + "\n")
    body = '{"reason":"größer"}'
    sent = headers(tmp_path, body)
    assert documented()(KEY, sent, body.encode())
    assert Verifier(KEY).verify(body, sent) == {"reason": "größer"}
    assert not documented()(OTHER, sent, body.encode())
    assert not documented()(KEY, sent, body.encode() + b" ")
    assert not documented()(KEY, sent | {"webhook-id": "msg_2"}, body.encode())
    old = headers(tmp_path, body, datetime.fromtimestamp(time.time() - 301, UTC))
    assert not documented()(KEY, old, body.encode()), "a replay"


def test_while_keys_are_changed_both_sign(tmp_path: Path) -> None:
    (tmp_path / "ops").write_text(f"{KEY}\n{OTHER}\n")
    sent = headers(tmp_path, "{}")
    assert documented()(KEY, sent, b"{}")
    assert documented()(OTHER, sent, b"{}")


@pytest.mark.parametrize(("content", "says"), [
    (None, "cannot be read"), ("", "is empty"), ("hunter2", "is no signing key"), ("whsec_c2hvcnQ=", "24 to 64 bytes"),
    ("whsec_%%%", "is no signing key"), (KEY.removeprefix("whsec_"), "is no signing key"),
])
def test_a_bad_key_is_refused_without_being_shown(content: str | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ops").write_text(content)
    with pytest.raises(SecretError, match=says) as error:
        headers(tmp_path, "{}")
    assert not content or content not in str(error.value).replace("whsec_ and", "")


def test_without_a_folder_it_says_which_setting_is_missing() -> None:
    with pytest.raises(SecretError, match="TUNELOOP_WEBHOOK_SECRETS_DIR is not set"):
        Secrets(None).url("slack")


def test_a_secret_url_is_checked_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "slack").write_text("https://hooks.slack.com/services/T0/B0/sesame\n")
    assert Secrets(tmp_path).url("slack").endswith("/sesame")
    (tmp_path / "slack").write_text("ftp://hooks.slack.com/services/T0/B0/sesame")
    with pytest.raises(SecretError) as error:
        Secrets(tmp_path).url("slack")
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize(("url", "says"), [
    ("ftp://ci.test/", "http"), ("ci.test/hook", "http"), ("https:///hook", "no host"), ("//ci.test/", "http"),
    ("https://user:password@ci.test/", "credentials"), ("https://token@ci.test/", "credentials"),
    ("https://ci.test:99999/", "no URL"), ("https://ci.test/#x", "fragment"), ("https://ci.test/a b", "space"),
    ("https://ci.test\\@evil.test/", "backslash"), ("http://169.254.169.254/latest", "link-local"),
    ("http://[fe80::1]/", "link-local"), ("https://ci.test/\n", "space"),
])
def test_urls_that_are_refused(url: str, says: str) -> None:
    assert says in (url_problem(url) or "")
    [(path, problem)] = webhook_problems([Webhook(name="a", type="event", url=url)])
    assert path == "0.url"
    assert says in problem


@pytest.mark.parametrize("url", ["http://ci.test/", "https://ci.test:8443/a/b?c=d", "http://10.0.0.1", "http://[::1]:8080/"])
def test_urls_that_may_be_called(url: str) -> None:
    assert url_problem(url) is None


def test_what_else_is_refused_when_a_pipeline_is_applied() -> None:
    slow = Webhook(name="a", type="event", url="http://ci.test/", timeout=timedelta(hours=1), failure_threshold=2)
    assert [path for path, _ in webhook_problems([slow])] == ["0.timeout", "0.failureThreshold"]
    nowhere = Notification(name="a")
    twice = Notification(name="a", url="http://ci.test/", url_from="slack")
    slack = Notification(name="b", url="https://hooks.slack.com/services/T0/B0/sesame")
    found = list(receiver_problems([nowhere, twice, slack]))
    assert [path for path, _ in found] == ["0.url", "1.name", "1.url", "2.url"]
    assert "sesame" not in str(found)
    assert "urlFrom" in found[-1][1]


def test_the_services_own_notifications_are_checked_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELOOP_NOTIFICATIONS", '[{"name": "ops", "urlFrom": "slack", "events": ["promoted"]}]')
    monkeypatch.setenv("TUNELOOP_WEBHOOK_HOSTS", "*.example.com, hooks.slack.com")
    settings = RolloutSettings()
    assert settings.notifications == [Notification(name="ops", url_from="slack", events=["promoted"])]
    assert settings.webhook_hosts == ["*.example.com", "hooks.slack.com"]
    monkeypatch.setenv("TUNELOOP_NOTIFICATIONS", '[{"name": "ops"}]')
    with pytest.raises(ValueError, match=r"0\.url: give either url or urlFrom"):
        RolloutSettings()


def call(state: str = "ask", attempts: int = 0, most: int = 3) -> WebhookCall:
    return WebhookCall(id="a", state=state, rollout_id="r", webhook="w", type="event", message_id="m",
                       timeout_seconds=1, most_attempts=most, attempts=attempts, body="", created_at=NOW)


FAULT = Outcome(ok=False, again=True, said="answered 503")


@pytest.mark.parametrize(("row", "outcome", "state"), [
    (call("ask"), Outcome(ok=True, again=False, said=""), "answered"),
    (call("tell"), Outcome(ok=True, again=False, said=""), "delivered"),
    (call("ask"), Outcome(ok=False, again=False, said=""), "answered"),
    (call("tell"), Outcome(ok=False, again=False, said=""), "failed"),
    (call("ask", attempts=2), FAULT, "answered"),
    (call("tell", attempts=2), FAULT, "failed"),
    (call("ask", attempts=1), FAULT, None),
    (call("tell", attempts=0), FAULT, None),
])
def test_what_follows_an_attempt(row: WebhookCall, outcome: Outcome, state: str | None) -> None:
    values = after_attempt(row, outcome, NOW, jitter=0.5)
    assert values.get("state") == state
    assert (values["next_look_at"] is None, values["ended_at"] is None) == (state is not None, state is None)
    assert (values["attempts"], values["ok"]) == (row.attempts + 1, outcome.ok)


@pytest.mark.parametrize(("state", "outcome", "ended", "word"), [
    ("ask", Outcome(ok=True, again=False, said=""), True, "ok"), ("ask", FAULT, False, "retried"),
    ("ask", FAULT, True, "failed"), ("ask", Outcome(ok=False, again=False, said=""), True, "refused"),
    ("tell", Outcome(ok=False, again=False, said=""), True, "failed"),
])
def test_what_an_attempt_is_counted_as(state: str, outcome: Outcome, ended: bool, word: str) -> None:
    assert word_of(call(state), outcome, ended=ended) == word


def test_delays_double_up_to_a_bound_and_heed_retry_after() -> None:
    seconds = [delay_after(attempts, None, jitter=1.0).total_seconds() for attempts in range(1, 13)]
    assert seconds[:5] == [1, 2, 4, 8, 16]
    assert seconds[-1] == LONGEST_DELAY.total_seconds()
    assert delay_after(1, None, jitter=0.0).total_seconds() == 0.5
    assert delay_after(1, timedelta(seconds=90), jitter=1.0).total_seconds() == 90
    assert delay_after(10_000, None, jitter=1.0) == LONGEST_DELAY


def test_the_service_has_a_loop_that_makes_the_calls(tmp_path: Path) -> None:
    settings = RolloutSettings(database_url=f"sqlite:///{tmp_path}/r.db", webhook_secrets_dir=tmp_path)
    engine, store = connect(settings.database_url), connect_store(settings)
    runtime = Runtime(settings=settings, engine=engine, store=store, clock=SystemClock(), instance="i")
    assert "webhooks" in [loop.name for loop in build_loops(runtime)]
    engine.dispose()
