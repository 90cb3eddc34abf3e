"""Runs data_ingest: ``python -m services.data_ingest``."""

import sys
from pathlib import Path

from services.data_ingest.api import build_router
from services.data_ingest.handlers import handlers
from services.data_ingest.reconcile import PrepareLoop
from services.data_ingest.settings import DataIngestSettings
from shared.service import Definition, run

DEFINITION = Definition(
    settings=DataIngestSettings, migrations=Path(__file__).parent / "migrations", handlers=handlers,
    router=build_router, loops=lambda runtime: [PrepareLoop(runtime)],
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
