"""Runs the drift service: ``python -m services.drift``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from services.drift import embed
from services.drift.api import build_router
from services.drift.embedder import Embedder
from services.drift.handlers import handlers
from services.drift.models import EmbeddingWindow
from services.drift.references import References
from services.drift.samples import GROUP, SampleLoop
from services.drift.settings import DriftSettings
from shared.messaging.security import KafkaSecurity
from shared.reconcile import ReconcileLoop
from shared.service import Definition, Loop, Runtime, run


def build_loops(runtime: Runtime[DriftSettings]) -> Sequence[Loop]:
    """The loop that counts samples, and, where an embedder is configured, the one that compares embeddings."""
    settings, embeds = runtime.settings, bool(runtime.settings.embeddings_url)
    samples = SampleLoop(
        engine=runtime.engine, references=References(runtime.engine, runtime.store), clock=runtime.clock,
        bootstrap=settings.kafka_bootstrap, group=f"{GROUP}{settings.kafka_group_suffix}",
        session_timeout_ms=settings.kafka_session_timeout_ms, security=KafkaSecurity.of(settings),
        on_full=embed.enqueue if embeds else None,
    )
    if not embeds:
        return [samples]
    reconciler = embed.EmbedReconciler(
        runtime.engine, References(runtime.engine, runtime.store), Embedder(settings), runtime.clock
    )
    return [samples, ReconcileLoop(
        name="embeddings", engine=runtime.engine, model=EmbeddingWindow, states=(embed.PENDING,),
        owner=runtime.instance, clock=runtime.clock, reconcile=reconciler, ttl=settings.lease_ttl_seconds,
        interval=settings.reconcile_interval_seconds,
    )]


DEFINITION = Definition(
    settings=DriftSettings, migrations=Path(__file__).parent / "migrations", handlers=handlers, router=build_router,
    loops=build_loops,
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
