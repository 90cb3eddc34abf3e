"""An adapter agent that looks when it is told to, and adapters in S3 for it to find."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import select

from services.serving.engine_client import EngineClient
from services.serving.handlers import handlers
from services.serving.memory import Memory
from services.serving.models import AdapterRow, Base
from services.serving.reconcile import AgentLoop
from services.serving.settings import AgentSettings
from shared.clock import SystemClock
from shared.db import connect, transaction
from shared.events import ArtifactRef, RouteTarget, RouteUpdated
from shared.s3 import ArtifactStore
from tests.support.adapters import write_adapter
from tests.support.db import create_tables
from tests.support.delivery import START, deliver, fact, said

BASE = "tiny"


@dataclass
class Agent:
    """An agent that looks when it is told to."""

    engine: Engine
    loop: AgentLoop
    settings: AgentSettings
    memory: Memory
    leaving: threading.Event
    revision: int = 0

    def route(self, **adapters: ArtifactRef) -> None:
        """A new revision of the route ``support``: ``v1=ref`` is the adapter ``support@1``."""
        self.revision += 1
        base = RouteTarget(model_version=None, adapter=None, role="stable", weight=10_000)
        candidates = [
            RouteTarget(model_version=f"support@{name[1:]}", adapter=ref, role="candidate", weight=0)
            for name, ref in adapters.items()
        ]
        deliver(self.engine, handlers, fact(RouteUpdated(
            route="support", revision=self.revision, salt="s", base_model=self.settings.base_model,
            targets=[base, *candidates], updated_at=START,
        ), sequence=self.revision))

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.look()

    def drop_waits(self) -> None:
        """Let the time pass that it waits after failures."""
        with transaction(self.engine) as session:
            for row in session.exec(select(AdapterRow).where(AdapterRow.state == "pending")):
                row.due_at = None

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [data for type_, data in said(self.engine) if type_ == kind]


@contextmanager
def agents(folder: Path, store: ArtifactStore) -> Iterator[Callable[..., Agent]]:
    """A function that makes agents for the model server at a URL; all share the database and the cache in `folder`."""
    opened = ExitStack()

    def make(url: str, **settings: Any) -> Agent:
        engine = connect(f"sqlite:///{folder}/agent.db")
        create_tables(engine, Base.metadata)
        opened.callback(engine.dispose)
        values = AgentSettings(
            **{"replica": "r0", "base_model": BASE, "engine_url": url, "cache_dir": folder / "cache",
               "drain_seconds": 0, "load_attempts": 2, **settings}
        )
        client = opened.enter_context(EngineClient(url, timeout=30, load_timeout=60))
        memory = Memory(engine, values, SystemClock())
        leaving = threading.Event()
        loop = AgentLoop(
            settings=values, memory=memory, store=store, client=client, clock=SystemClock(), leaving=leaving
        )
        return Agent(engine, loop, values, memory, leaving)

    with opened:
        yield make


class Adapters:
    """Puts adapters into S3."""

    def __init__(self, store: ArtifactStore, model: Path, folder: Path, base_digest: str, base: str = BASE) -> None:
        self._store, self._model, self._folder, self._base_digest = store, model, folder, base_digest
        self._base = base
        self._count = 0

    def put(
        self, *, meta: dict[str, Any] | None = None, config: dict[str, Any] | None = None, strength: float = 0.5,
        model: Path | None = None,
    ) -> ArtifactRef:
        """A new adapter with weights of its own; `meta`, `config` and `model` say what is wrong with it."""
        self._count += 1
        folder = write_adapter(
            self._folder / str(self._count), model or self._model, seed=int.from_bytes(os.urandom(4), "big"),
            config=config, strength=strength,
        )
        about = {"base_model": self._base, "base_model_digest": self._base_digest, "rank": 4}
        return self._store.put_dir("adapters", folder, meta={**about, **(meta or {})})
