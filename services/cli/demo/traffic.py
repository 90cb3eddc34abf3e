"""Users for the demo: people who ask the gateway questions, at a steady rate, and know the right answers."""

import itertools
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

MODEL_HEADER = "x-tuneloop-model-version"
# As much of an error's body as a line of people's should have.
_SAID = 300


@dataclass
class Tally:
    """What the users saw, by model version: requests, failures, and right answers; and what the last failure was."""

    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    correct: Counter[str] = field(default_factory=Counter)
    failure: str = ""

    def accuracy(self, model_version: str) -> float | None:
        """Share of right answers among the answered requests, or None without any."""
        answered = self.requests[model_version] - self.failures[model_version]
        return self.correct[model_version] / answered if answered else None


class Traffic:
    """Sends chat completions for a route until the block ends.

    Args:
        url: base URL of the gateway.
        rows: chat rows; the last message of each is the right answer.
        rate: requests per second, as long as the servers keep up.
        users: how many distinct users take turns; each stays with the model that the gateway gave them. With few of
            them, the candidate's share of the requests is far from its weight by chance.
        key: an API key, where the gateway wants one.
    """

    def __init__(
        self, url: str, route: str, rows: Sequence[dict[str, Any]], *, rate: float, users: int = 500, seed: int = 7,
        key: str | None = None,
    ) -> None:
        self._url, self._route, self._rate, self._users = url, route, rate, users
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._rows = itertools.cycle(rows)
        self._random = random.Random(seed)  # noqa: S311 - which user asks what is no secret
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._next_at = 0.0
        # Enough workers that one slow answer does not hold up the rest; the rate is what bounds the load.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(4)]
        self.tally = Tally()

    def __enter__(self) -> "Traffic":
        self._next_at = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait(self, seconds: float, requests: int | None = None) -> bool:
        """Until so many requests have ended, but no longer than that; whether they have."""
        with self._lock:
            return self._lock.wait_for(lambda: self.tally.requests.total() >= (requests or math.inf), seconds)

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=60, trust_env=False) as client:
            while True:
                row, user, wait = self._take()
                if self._stop.wait(wait):
                    return
                self._ask(client, row, user)

    def _take(self) -> tuple[dict[str, Any], str, float]:
        """The next question, who asks it, and how many seconds from now."""
        with self._lock:
            now = time.monotonic()
            # Where the servers cannot keep up, the backlog is dropped: users who waited do not all come at once.
            self._next_at = max(self._next_at + 1 / self._rate, now - 1)
            return next(self._rows), f"user-{self._random.randrange(self._users)}", max(0.0, self._next_at - now)

    def _ask(self, client: httpx.Client, row: dict[str, Any], user: str) -> None:
        *prompt, expected = row["messages"]
        body = {"model": self._route, "messages": prompt, "user": user, "temperature": 0, "max_tokens": 12}
        answer = failure = ""
        try:
            response = client.post("/v1/chat/completions", json=body)
            version = response.headers.get(MODEL_HEADER, "none")
            if response.status_code == 200:
                answer = response.json()["choices"][0]["message"]["content"]
            else:
                failure = f"{response.status_code} {response.text[:_SAID]}"
        except httpx.HTTPError as error:
            version, failure = "none", str(error) or type(error).__name__
        except (LookupError, TypeError, ValueError):
            failure = f"not an answer of chat completions: {response.text[:_SAID]}"
        with self._lock:
            self.tally.requests[version] += 1
            self.tally.failures[version] += bool(failure)
            self.tally.correct[version] += answer.strip() == expected["content"].strip()
            self.tally.failure = failure or self.tally.failure
            self._lock.notify_all()
