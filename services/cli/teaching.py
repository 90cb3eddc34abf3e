"""A teacher's answers as rows to train on: sequence-level distillation (Kim and Rush, arXiv 1606.07947).

The teacher is any server with OpenAI's chat API, so it may have another tokenizer than the student, and need not be
ours. Each row says who answered it and how, which data_ingest keeps in the dataset version's report.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from services.cli.errors import CliError, ExitCode
from shared.clock import Clock

Row = dict[str, Any]
_LOCAL = ("127.0.0.1", "localhost", "::1")
_ATTEMPTS = 4
_FIRST_WAIT = 1.0
_BUSY = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Question:
    """What the teacher is asked.

    Attributes:
        number: the row's in its file, from 1.
        messages: the conversation without an answer at its end.
        others: what else the row says, such as its task; it stays in the row.
    """

    number: int
    messages: list[Row]
    others: Row


@dataclass(frozen=True)
class Rule:
    """How the teacher answers: where its server obeys seeds, always the same to the same row."""

    model: str
    temperature: float
    max_tokens: int
    seed: int

    @property
    def said(self) -> str:
        """For the row, and so for the dataset's report."""
        return f"{self.model}, temperature {self.temperature:g}, seed {self.seed}"


def questions(lines: Iterable[str], *, source: str) -> Iterator[Question]:
    """The questions in lines of ``{"prompt": ..., "system": ...}`` or ``{"messages": [...]}``; answers are left out.

    Raises:
        CliError: a line is neither, or asks nothing.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _question(line, number, source)


def _question(line: str, number: int, source: str) -> Question:
    try:
        row = json.loads(line)
        if "messages" in row:
            messages = list(row["messages"])
            messages = messages[:-1] if messages[-1]["role"] == "assistant" else messages
        else:
            system = [] if row.get("system") is None else [{"role": "system", "content": row["system"]}]
            messages = [*system, {"role": "user", "content": row["prompt"]}]
        asked = messages[-1]["role"] == "user" and bool(messages[-1]["content"].strip())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        asked = False
    if not asked:
        raise CliError(
            f'{source}, row {number}: asks nothing; write {{"prompt": "..."}}, or {{"messages": [...]}} that end in '
            "the user's message or in an answer"
        )
    gone = ("messages", "prompt", "completion", "system", "teacher")
    return Question(number, messages, {key: value for key, value in row.items() if key not in gone})


class Teacher:
    """A server that answers. Use as a context manager.

    Args:
        url: of its API, with what stands before ``/chat/completions``, such as ``http://localhost:8000/v1``.
        key: sent as a bearer token, where there is one.
        transport: instead of the network.
    """

    def __init__(
        self, url: str, rule: Rule, clock: Clock, *, key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url, self._rule, self._clock = url.rstrip("/"), rule, clock
        local = urlsplit(url).hostname in _LOCAL
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            timeout=httpx.Timeout(300.0, connect=5.0), trust_env=not local, headers=headers, transport=transport
        )

    def __enter__(self) -> "Teacher":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def teach(self, asked: Iterable[Question], concurrency: int) -> Iterator[tuple[Question, Row | None]]:
        """Each question, in its order, with the answered row; None where the answer is empty or was cut off.

        An answer that was cut off would teach a student not to stop.

        Raises:
            CliError: the teacher does not answer.
        """
        with ThreadPoolExecutor(concurrency) as pool:
            for question, answer in pool.map(lambda one: (one, self._answer(one)), asked):
                row = {"messages": [*question.messages, {"role": "assistant", "content": answer}], **question.others,
                       "teacher": self._rule.said}
                yield question, row if answer is not None else None

    def _answer(self, question: Question) -> str | None:
        body = {
            "model": self._rule.model, "messages": question.messages, "temperature": self._rule.temperature,
            "max_tokens": self._rule.max_tokens,
            # Of each row its own, or two rows with one question would get one answer.
            "seed": self._rule.seed + question.number,
        }
        choice = self._ask(body, question.number)
        text = (choice.get("message") or {}).get("content") or ""
        return text if text.strip() and choice.get("finish_reason") == "stop" else None

    def _ask(self, body: Row, number: int) -> Mapping[str, Any]:
        wait, problem = _FIRST_WAIT, ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._clock.wait(threading.Event(), wait)
                wait *= 2
            try:
                response = self._http.post(f"{self.url}/chat/completions", json=body)
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
                continue
            except httpx.InvalidURL as error:
                raise CliError(f"--teacher: {self.url} is not a URL: {error}", ExitCode.USAGE) from error
            if response.status_code == httpx.codes.OK:
                return _choice(response, self.url)
            problem = f"HTTP {response.status_code}: {response.text[:200]}"
            if response.status_code not in _BUSY:
                break
        raise CliError(f"the teacher at {self.url} did not answer row {number}: {problem}. Go on with --skip "
                       f"{number - 1} once it does", ExitCode.UNREACHABLE)


def _choice(response: httpx.Response, url: str) -> Mapping[str, Any]:
    try:
        choice: Mapping[str, Any] = response.json()["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CliError(f"{url} answers, but not as OpenAI's chat API does: {response.text[:200]}") from error
    return choice
