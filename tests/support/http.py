"""A FastAPI application behind a real port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from tests.support.ports import free_port
from tests.support.wait import eventually


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve `app` while the block lasts; its base URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, name="test-http", daemon=True)
    thread.start()
    eventually(lambda: server.started, what="the HTTP server's start")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
