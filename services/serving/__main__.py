"""Runs the adapter agent: ``python -m services.serving``."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from services.serving.api import build_router
from services.serving.engine_client import EngineClient
from services.serving.handlers import handlers
from services.serving.memory import Memory
from services.serving.reconcile import AgentLoop
from services.serving.settings import AgentSettings
from shared.service import Definition, Loop, Runtime, run

# Set by the API, heeded by the loop: the two have nothing else in common.
_leaving = threading.Event()


def build_loops(runtime: Runtime[AgentSettings]) -> Sequence[Loop]:
    """The agent's own loop."""
    settings = runtime.settings
    client = EngineClient(
        settings.engine_url, timeout=settings.engine_timeout_seconds, load_timeout=settings.load_timeout_seconds
    )
    memory = Memory(runtime.engine, settings, runtime.clock)
    return [AgentLoop(
        settings=settings, memory=memory, store=runtime.store, client=client, clock=runtime.clock, leaving=_leaving,
    )]


DEFINITION = Definition(
    settings=AgentSettings, migrations=Path(__file__).parent / "migrations", handlers=handlers,
    router=lambda runtime: build_router(runtime, _leaving), loops=build_loops,
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
