"""A real HTTP server that is called by webhooks, remembers what it got, and answers as it is told, also badly."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.body)
        return loaded


class WebhookReceiver:
    """Answers by path: a list of answers, of which the last one stays.

    An answer is a status, a status with a body, or a word: ``hang`` says nothing until the server ends, ``drip`` sends
    the answer's first line a byte at a time and never ends it.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: dict[str, list[int | tuple[int, str] | str]] = {}
        self.headers: dict[str, str] = {}
        self.during: dict[str, Callable[[], object]] = {}  # what happens between a path's call and its answer, once
        self.ended = threading.Event()
        self.arrived = threading.Condition()
        self.url = ""

    def got(self, path: str) -> list[Received]:
        with self.arrived:
            return [each for each in self.received if each.path == path]

    def wait_for(self, path: str, count: int = 1) -> list[Received]:
        """The requests to a path, once there are `count`."""
        with self.arrived:
            enough = self.arrived.wait_for(lambda: len([r for r in self.received if r.path == path]) >= count, 30)
        assert enough, f"{path} was called {len(self.got(path))} times, not {count}"
        return self.got(path)

    def answer(self, request: Received) -> int | tuple[int, str] | str:
        with self.arrived:
            self.received.append(request)
            self.arrived.notify_all()
            answers = self.answers.setdefault(request.path, [200])
            return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def receive(tls: ssl.SSLContext | None = None) -> Iterator[WebhookReceiver]:
    """A receiver on a free port, until the block ends."""
    receiver = WebhookReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.answer(Received(self.path, headers, body))
            receiver.during.pop(self.path, lambda: None)()
            if isinstance(answer, str):
                self._misbehave(answer)
                return
            status, text = answer if isinstance(answer, tuple) else (answer, "")
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def _misbehave(self, how: str) -> None:
            self.close_connection = True
            for byte in b"HTTP/1.1 200 OK" + 100 * b"K" if how == "drip" else b"":
                if receiver.ended.wait(0.05):
                    return
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:  # the caller has had enough
                    return
            receiver.ended.wait()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        scheme = "http"
        if tls is not None:
            server.socket, scheme = tls.wrap_socket(server.socket, server_side=True), "https"
        receiver.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.ended.set()
            server.shutdown()
            thread.join(10)
