"""Faults on purpose, for tests and the demo: a share of one model's requests fails or waits.

The route exists only where ``TUNELOOP_FAULT_HOOKS`` is on; a server without it has no such path.
"""

import asyncio
import random

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from services.serving.engine.errors import internal
from shared.telemetry import get_logger

log = get_logger(__name__)


class Fault(BaseModel):
    """What happens to requests for `model`.

    Attributes:
        error_rate: share that is answered 500; drawn with `seed`, so that a test can know which ones.
        latency_seconds: waited before each request.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    error_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    latency_seconds: float = Field(default=0.0, ge=0.0, le=60.0)
    seed: int = 0


class Faults:
    """The faults that are set, by model."""

    def __init__(self) -> None:
        self._faults: dict[str, tuple[Fault, random.Random]] = {}

    async def before(self, model: str) -> None:
        """Wait or fail as set for `model`; nothing where nothing is set."""
        if model not in self._faults:
            return
        fault, draw = self._faults[model]
        if fault.latency_seconds:
            await asyncio.sleep(fault.latency_seconds)
        if draw.random() < fault.error_rate:
            raise internal(f"injected fault: {fault.error_rate:.0%} of the requests for {model} fail")

    def router(self) -> APIRouter:
        """``POST`` sets the fault of a model, ``GET`` lists them; a rate and a latency of 0 end it."""
        router = APIRouter(prefix="/v1/test/faults", tags=["faults"])

        @router.get("")
        async def get_faults() -> dict[str, list[Fault]]:
            return {"items": [fault for fault, _ in self._faults.values()]}

        @router.post("")
        async def post_fault(fault: Fault) -> Fault:
            if fault.error_rate or fault.latency_seconds:
                self._faults[fault.model] = (fault, random.Random(fault.seed))  # noqa: S311 - not a secret
            else:
                self._faults.pop(fault.model, None)
            log.warning("fault hook", **fault.model_dump())
            return fault

        return router
