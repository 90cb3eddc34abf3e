"""What the engine counts. Per-adapter latency is the gateway's to measure, as it is with vLLM."""

from prometheus_client import Counter, Gauge

REQUESTS = Counter("tuneloop_engine_requests", "Generation requests by model and answer", ["model", "code"])
TOKENS = Counter("tuneloop_engine_tokens", "Tokens by model and kind (prompt, completion)", ["model", "kind"])
RUNNING = Gauge("tuneloop_engine_requests_running", "Requests that decode now")
WAITING = Gauge("tuneloop_engine_requests_waiting", "Requests in the queue")
ADAPTERS = Gauge("tuneloop_engine_adapters_loaded", "Adapters that are listed")
STEP_FAILURES = Counter("tuneloop_engine_step_failures", "Steps of the model that raised")
