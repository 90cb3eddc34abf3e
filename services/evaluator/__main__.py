"""Runs the evaluator: ``python -m services.evaluator``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sqlmodel import select

from services.evaluator import metrics, repeat
from services.evaluator.api import build_router
from services.evaluator.handlers import handlers
from services.evaluator.models import Evaluation, PipelineRules, Schedule
from services.evaluator.reconcile import ACTIVE, Reconciler
from services.evaluator.settings import EvaluatorSettings
from shared.db import reading
from shared.launchers import launcher_from
from shared.reconcile import ReconcileLoop
from shared.service import Definition, Loop, Runtime, run


def build_loops(runtime: Runtime[EvaluatorSettings]) -> Sequence[Loop]:
    """The loop that launches, watches and judges, and the one that waits for scheduled times."""
    settings = runtime.settings
    with reading(runtime.engine) as session:
        for pipeline in session.exec(select(PipelineRules.pipeline).distinct()):
            metrics.begin(pipeline)
    reconciler = Reconciler(
        runtime.engine, runtime.store, launcher_from(settings), runtime.clock,
        timeout_seconds=settings.evaluation_timeout_seconds,
    )
    return [
        ReconcileLoop(
            name="evaluations", engine=runtime.engine, model=Evaluation, states=ACTIVE, owner=runtime.instance,
            clock=runtime.clock, reconcile=reconciler, ttl=settings.lease_ttl_seconds,
            interval=settings.reconcile_interval_seconds,
        ),
        ReconcileLoop(
            name="schedules", engine=runtime.engine, model=Schedule, states=(repeat.ACTIVE,), owner=runtime.instance,
            clock=runtime.clock, reconcile=repeat.Scheduler(runtime.engine, runtime.clock),
            ttl=settings.lease_ttl_seconds, interval=settings.reconcile_interval_seconds,
        ),
    ]


DEFINITION = Definition(
    settings=EvaluatorSettings, migrations=Path(__file__).parent / "migrations", handlers=handlers,
    router=build_router, loops=build_loops,
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
