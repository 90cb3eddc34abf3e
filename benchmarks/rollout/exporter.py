"""A gateway's metrics for many routes, that count by themselves: ``python exporter.py PORT ROUTES``.

The counters are functions of the time since the start, so that whoever scrapes, and however often, sees steady traffic.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKETS = ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf")
# Requests per second of stable and of the candidate, of which one in a hundred fails.
RATES = {"base": 40.0, "1": 10.0}


def exposition(routes: int, seconds: float) -> str:
    """All series after `seconds` of traffic, in Prometheus' text format."""
    requests, durations, unnamed = [], [], []
    for route in range(routes):
        name = f"r{route:04}"
        for version, rate in RATES.items():
            label = version if version == "base" else f"{name}@{version}"
            # No two routes alike, so that nothing can be computed for one and reused for another.
            total = int(rate * (1 + route / 1000) * seconds)
            bad = total // 100
            at = f'route="{name}",model_version="{label}"'
            requests += [f'tuneloop_gateway_requests_total{{{at},outcome="ok"}} {total - bad}',
                         f'tuneloop_gateway_requests_total{{{at},outcome="error"}} {bad}']
            durations += [
                f'tuneloop_gateway_request_duration_seconds_bucket{{{at},le="{le}"}} '
                f"{total - bad if float(le) > 1 else int((total - bad) * 0.99)}"
                for le in BUCKETS
            ]
            # Nobody is named: each request is a unit, so that they divide as requests do.
            unnamed.append(f'tuneloop_gateway_unit_events_total{{{at},event="unnamed",le="",times="1"}} {total}')
    return "\n".join([
        "# TYPE tuneloop_gateway_requests_total counter", *requests,
        "# TYPE tuneloop_gateway_request_duration_seconds_bucket counter", *durations,
        "# TYPE tuneloop_gateway_unit_events_total counter", *unnamed, "",
    ])


def main(port: int, routes: int) -> None:
    """Serve until killed."""
    begun = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition(routes, time.monotonic() - begun).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
