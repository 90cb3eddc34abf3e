"""Runs the rollout controller: ``python -m services.rollout``."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from services.rollout.api import build_router
from services.rollout.courier import Courier
from services.rollout.handlers import handlers
from services.rollout.prometheus import Prometheus
from services.rollout.reconcile import Reconciler
from services.rollout.replicas import Forgetter
from services.rollout.settings import RolloutSettings
from services.rollout.sweeper import Sweeper
from services.rollout.webhook_http import Sender
from services.rollout.webhook_secrets import Secrets
from services.rollout.withdrawals import Confirmations, Gateways, Watcher
from shared.service import Definition, Loop, Runtime, run


def build_loops(runtime: Runtime[RolloutSettings]) -> Sequence[Loop]:
    """Those that decide, call webhooks, forget replicas and old messages, see that all was done, and tell llm-d."""
    settings = runtime.settings
    prometheus = Prometheus(
        settings.prometheus_url, timeout=settings.prometheus_timeout_seconds,
        stale_after=settings.prometheus_stale_seconds,
    )
    timing: dict[str, Any] = {
        "owner": runtime.instance, "ttl": settings.lease_ttl_seconds, "interval": settings.reconcile_interval_seconds,
    }
    sender = Sender(Secrets(settings.webhook_secrets_dir), settings.webhook_hosts)
    loops: list[Loop] = [
        Reconciler(runtime.engine, prometheus, runtime.clock, settings.notifications).loop(**timing),
        Courier(runtime.engine, sender, runtime.clock, **timing),
        Forgetter(runtime.engine, runtime.clock, timedelta(seconds=settings.replica_silence_seconds)),
        Sweeper(runtime.engine, runtime.clock, timedelta(days=settings.webhook_keep_days)),
    ]
    confirmations: Confirmations = Gateways(prometheus)
    if settings.traffic_backend == "inference-model-rewrite":
        # Its client of Kubernetes takes a while to import, and is not installed everywhere.
        from services.rollout.rewrites.loop import Rewrites, rewrite_loop

        loops.append(rewrite_loop(settings, runtime.engine, runtime.clock, owner=runtime.instance))
        confirmations = Rewrites(runtime.engine)
    return [*loops, Watcher(runtime.engine, confirmations, runtime.clock).loop(**timing)]


DEFINITION = Definition(
    settings=RolloutSettings, migrations=Path(__file__).parent / "migrations", handlers=handlers,
    router=build_router, loops=build_loops,
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
