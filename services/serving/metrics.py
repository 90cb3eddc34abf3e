"""What the agent counts."""

from prometheus_client import Counter, Gauge, Histogram

ENGINE_UP = Gauge("tuneloop_serving_engine_up", "1 while the model server answers and has its base model")
ENGINE_STARTS = Counter("tuneloop_serving_engine_starts", "Starts of the model server that the agent has seen")
ADAPTERS = Gauge("tuneloop_serving_adapters", "Adapters that the agent remembers, by state", ["state"])
HOT_ADAPTERS = Gauge("tuneloop_serving_hot_adapters", "Adapters that the routes give traffic to now")
LOADS = Counter("tuneloop_serving_loads", "Loads by outcome: loaded, temporary, permanent", ["outcome"])
LOAD_SECONDS = Histogram(
    "tuneloop_serving_load_seconds", "From the decision to load to the server's answer",
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
