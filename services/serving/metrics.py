"""What the agent counts."""

from prometheus_client import Counter, Gauge, Histogram

ENGINE_UP = Gauge("tuneloop_serving_engine_up", "1 while the model server answers and has its base model")
ENGINE_STARTS = Counter("tuneloop_serving_engine_starts", "Starts of the model server that the agent has seen")
ADAPTERS = Gauge("tuneloop_serving_adapters", "Adapters that the agent remembers, by state", ["state"])
SLOTS = Gauge("tuneloop_serving_adapter_slots", "Adapters that the model server can have: listed, or hot", ["kind"])
HOT_ADAPTERS = Gauge("tuneloop_serving_hot_adapters", "Adapters that the routes give traffic to now")
LOADS = Counter("tuneloop_serving_loads", "Loads by outcome: loaded, temporary, permanent", ["outcome"])
LOAD_SECONDS = Histogram(
    "tuneloop_serving_load_seconds", "From the decision to load to the server's answer",
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
UNLOADS = Counter("tuneloop_serving_unloads", "Adapters that are gone from the model server because nobody wants them")


def begin(*, listed: int, hot: int) -> None:
    """Show what there is room for, and let the counters exist at 0: `increase` does not see a first value."""
    SLOTS.labels("listed").set(listed)
    SLOTS.labels("hot").set(hot)
    for outcome in ("loaded", "temporary", "permanent"):
        LOADS.labels(outcome)
