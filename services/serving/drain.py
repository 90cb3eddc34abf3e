"""What a model server's container does before it ends: a preStop hook, for Kubernetes.

    python3 -m services.serving.drain --agent http://127.0.0.1:8080 --engine http://127.0.0.1:8000 --seconds 60

It tells the adapter agent, which tells the gateways to ask others, and returns once no request is left, or after
`--seconds`. Then Kubernetes sends SIGTERM. Standard library only: it runs in vLLM's environment, and must be quick.
"""

import argparse
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence

_GAUGES = (
    "vllm:num_requests_running", "vllm:num_requests_waiting",
    "tuneloop_engine_requests_running", "tuneloop_engine_requests_waiting",
)
_TIMEOUT_SECONDS = 5.0
_LOOK_SECONDS = 0.5
# From the agent's look to a gateway's next choice, by way of Kafka. Until then quiet means nothing.
SETTLE_SECONDS = 5.0

Call = Callable[[str, str], str]


def requests_in(metrics: str) -> float:
    """How many requests a server has, from its metrics in Prometheus' text format."""
    samples = (line.rpartition(" ") for line in metrics.splitlines() if not line.startswith("#"))
    return sum(float(value) for name, _, value in samples if name.partition("{")[0] in _GAUGES)


def drain(
    *, agent: str, engine: str, seconds: float, call: Call, clock: Callable[[], float], sleep: Callable[[float], None]
) -> str:
    """Tell the agent and wait; how it ended, for people.

    Args:
        call: does a request of a method to a URL and gives the answer's body; raises OSError.
    """
    began = clock()
    try:
        call("POST", f"{agent}/v1/drain")
    except OSError as error:
        # Without the word gateways go on to ask until the port is closed; waiting is still of use to what runs.
        sys.stderr.write(f"drain: the adapter agent at {agent} was not told: {error}\n")
    while (waited := clock() - began) < seconds:
        try:
            left = requests_in(call("GET", f"{engine}/metrics"))
        except OSError as error:
            return f"the model server does not answer: {error}"
        if not left and waited >= SETTLE_SECONDS:
            return f"no request is left after {waited:.0f} s"
        sleep(_LOOK_SECONDS)
    return f"requests are left after {seconds:g} s"


def _call(method: str, url: str) -> str:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - both URLs are of this pod
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
        text: str = answer.read().decode(errors="replace")
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Drain; the exit code, which is 0: the container ends whatever this says."""
    parser = argparse.ArgumentParser(prog="services.serving.drain", description="Let a model server's requests end.")
    parser.add_argument("--agent", required=True, help="base URL of the adapter agent")
    parser.add_argument("--engine", required=True, help="base URL of the model server")
    parser.add_argument("--seconds", type=float, required=True, help="wait for at most this long")
    options = parser.parse_args(arguments)
    said = drain(
        agent=options.agent, engine=options.engine, seconds=options.seconds, call=_call, clock=time.monotonic,
        sleep=time.sleep,
    )
    sys.stderr.write(f"drain: {said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
