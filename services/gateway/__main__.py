"""Starts the gateway: ``python -m services.gateway``."""

import sys

import uvloop

from services.gateway.server import Gateway, bind
from services.gateway.settings import GatewaySettings
from shared.errors import InvalidInputError
from shared.settings import load_settings
from shared.telemetry import configure


def main() -> int:
    """Run until SIGTERM; the process's exit code."""
    if sys.argv[1:]:
        sys.stderr.write(f"gateway: unknown arguments {' '.join(sys.argv[1:])}; there are none\n")
        return 2
    settings = load_settings(GatewaySettings)
    configure(settings)
    try:
        listener = bind(settings)
    except OSError as error:
        sys.stderr.write(f"gateway: cannot listen on {settings.http_host}:{settings.http_port}: {error}; "
                         "set TUNELOOP_HTTP_PORT to a free port\n")
        return 1
    try:
        gateway = Gateway(settings)
    except InvalidInputError as error:
        sys.stderr.write(f"gateway: cannot start: {error}; TUNELOOP_API_KEYS_FILE says which file is read\n")
        return 2
    uvloop.run(gateway.run(listener))
    return 0


if __name__ == "__main__":
    sys.exit(main())
