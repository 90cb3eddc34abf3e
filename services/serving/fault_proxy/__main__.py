"""``python -m services.serving.fault_proxy``: stand in front of a model server until SIGTERM."""

import sys

import uvicorn
from pydantic import ValidationError

from services.serving.fault_proxy.app import build_app
from services.serving.fault_proxy.settings import FaultProxySettings
from shared.telemetry import configure


def main() -> int:
    """Run the proxy; the process's exit code."""
    try:
        settings = FaultProxySettings()
    except ValidationError as error:
        sys.stderr.write(f"fault_proxy: cannot start, the settings are wrong: {error}\n")
        return 2
    configure(settings)
    server = uvicorn.Server(uvicorn.Config(
        build_app(settings.engine_url), host=settings.http_host, port=settings.http_port, log_config=None,
        access_log=False, timeout_graceful_shutdown=10,
    ))
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
