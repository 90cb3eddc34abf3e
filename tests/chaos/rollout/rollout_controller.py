"""The rollout controller's loops as a process of its own, for tests that kill and stop it.

    rollout_controller.py DATABASE_URL PROMETHEUS_URL OWNER LEASE_SECONDS
"""

import signal
import sys
import threading

from services.rollout.courier import Courier
from services.rollout.prometheus import Prometheus
from services.rollout.reconcile import Reconciler
from services.rollout.webhook_http import Sender
from services.rollout.webhook_secrets import Secrets
from shared.clock import SystemClock
from shared.db import connect


def main(database_url: str, prometheus_url: str, owner: str, lease_seconds: str) -> None:
    """Run until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    prometheus = Prometheus(prometheus_url, timeout=5, stale_after=15)
    engine, clock, ttl = connect(database_url), SystemClock(), float(lease_seconds)
    courier = Courier(engine, Sender(Secrets(None)), clock, owner=owner, ttl=ttl, interval=0.1)
    threading.Thread(target=courier.run, args=(stop,), daemon=True).start()
    Reconciler(engine, prometheus, clock).loop(owner=owner, ttl=ttl, interval=0.1).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
