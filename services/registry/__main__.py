"""Runs the registry: ``python -m services.registry``."""

import sys
from pathlib import Path

from services.registry.api import build_router
from services.registry.handlers import handlers
from services.registry.settings import RegistrySettings
from shared.service import Definition, run

DEFINITION = Definition(
    settings=RegistrySettings, migrations=Path(__file__).parent / "migrations", handlers=handlers, router=build_router
)


def main() -> int:
    """Run until SIGTERM; the exit code."""
    return run(DEFINITION, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
