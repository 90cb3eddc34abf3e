"""``python -m services.serving.fault_proxy``: stand in front of a model server until SIGTERM."""

import sys

import uvicorn

from services.serving.fault_proxy.app import build_app
from services.serving.fault_proxy.settings import FaultProxySettings
from shared.settings import load_settings
from shared.telemetry import configure


def main() -> int:
    """Run the proxy; the process's exit code."""
    settings = load_settings(FaultProxySettings)
    configure(settings)
    server = uvicorn.Server(uvicorn.Config(
        build_app(settings.engine_url), host=settings.http_host, port=settings.http_port, log_config=None,
        access_log=False, timeout_graceful_shutdown=10,
    ))
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
