"""Runs the trainer: ``python -m services.trainer``."""

import sys
from pathlib import Path

from fastapi import APIRouter
from prometheus_client import REGISTRY

from services.trainer.advice import advice_router
from services.trainer.api import build_router
from services.trainer.handlers import handlers
from services.trainer.progress import RunProgress
from services.trainer.reconcile import RunReconciler
from services.trainer.settings import TrainerSettings
from shared.launchers import launcher_from
from shared.service import Definition, Runtime, run


def _router(runtime: Runtime[TrainerSettings]) -> APIRouter:
    REGISTRY.register(RunProgress(runtime.engine))
    both = APIRouter()
    both.include_router(build_router(runtime, launcher_from(runtime.settings)))
    both.include_router(advice_router(runtime))
    return both


DEFINITION = Definition(
    settings=TrainerSettings,
    migrations=Path(__file__).parent / "migrations",
    handlers=handlers,
    router=_router,
    loops=lambda runtime: [RunReconciler(runtime, launcher_from(runtime.settings)).loop()],
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
