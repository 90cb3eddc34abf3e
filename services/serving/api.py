"""What the agent tells people: which adapters its server has, and why one is missing."""

import threading
from typing import Any

from fastapi import APIRouter

from services.serving.memory import Memory
from services.serving.settings import AgentSettings
from shared.service import Runtime


def build_router(runtime: Runtime[AgentSettings], leaving: threading.Event) -> APIRouter:
    """The agent's routes.

    Args:
        leaving: set where the model server is about to stop; see `AgentLoop`.
    """
    router = APIRouter(prefix="/v1", tags=["serving"])
    memory = Memory(runtime.engine, runtime.settings, runtime.clock)

    @router.get("/adapters")
    def get_adapters(state: str = "", limit: int = 100) -> dict[str, Any]:
        """Adapters on this replica, newest change first, with the reason where one failed."""
        rows = [row for row in memory.read().adapters if not state or row.state == state]
        rows.sort(key=lambda row: row.updated_at, reverse=True)
        return {"items": [row.model_dump(mode="json") for row in rows[:limit]]}

    @router.get("/replica")
    def get_replica() -> dict[str, Any]:
        """The model server beside this agent; `ready_at` is null until it was first seen."""
        settings, server = runtime.settings, memory.read().server
        return {
            "replica": settings.replica, "endpoint": settings.advertised_endpoint, "base_model": settings.base_model,
            "ready_at": server.ready_at.isoformat() if server else None, "leaving": leaving.is_set(),
        }

    @router.post("/drain", status_code=202)
    def post_drain() -> dict[str, Any]:
        """The model server is about to stop: gateways are told to ask others. Its next start ends it."""
        leaving.set()
        return get_replica()

    return router
