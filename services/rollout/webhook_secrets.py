"""Secrets of webhooks: files in one folder, each with the name by which policies call it. Read at each call.

Only this folder is ever read, by names without a path in them: whoever may apply a pipeline must not be able to have
another secret of the service sent somewhere.
"""

import base64
import binascii
from datetime import datetime
from pathlib import Path

from standardwebhooks import Webhook

from shared.webhooks import url_problem

PREFIX = "whsec_"
# As the specification demands: https://github.com/standard-webhooks/standard-webhooks.
_KEY_BYTES = range(24, 65)


class SecretError(Exception):
    """A webhook's secret is not there or cannot be used; the message does not contain it."""


class Secrets:
    """The secrets in a folder; None where there is no folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        """The URL that a secret holds."""
        url = self._read(name).strip()
        if problem := url_problem(url):
            raise SecretError(f"the webhook secret {name} holds no URL that can be called: {problem}")
        return url

    def sign(self, name: str, message_id: str, at: datetime, body: str) -> str:
        """The value of ``webhook-signature``.

        The file may hold several keys, one a line: each signs, so that receivers may change from one to the next.
        """
        keys = self._read(name).split()
        if not keys:
            raise SecretError(f"the webhook secret {name} is empty")
        return " ".join(Webhook(_checked(name, key)).sign(message_id, at, body) for key in keys)

    def _read(self, name: str) -> str:
        if self._folder is None:
            raise SecretError(f"the webhook secret {name} is not there: TUNELOOP_WEBHOOK_SECRETS_DIR is not set")
        try:
            return (self._folder / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise SecretError(f"the webhook secret {name} cannot be read from {self._folder}: {why}") from error


def _checked(name: str, key: str) -> str:
    try:
        size = len(base64.b64decode(key.removeprefix(PREFIX), validate=True))
    except binascii.Error:
        size = 0
    if not key.startswith(PREFIX) or size not in _KEY_BYTES:
        raise SecretError(
            f"the webhook secret {name} is no signing key: it must be {PREFIX} and 24 to 64 bytes in base64; "
            f'make one with: echo "{PREFIX}$(openssl rand -base64 32)"'
        )
    return key
