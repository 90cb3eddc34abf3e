"""What this process would tell Prometheus."""

from prometheus_client import REGISTRY


def shown(name: str, **labels: str) -> float | None:
    """The value of one series, or None where there is no such series."""
    # Not the whole registry: other tests' gauges would look into databases that are gone.
    samples = (sample for family in REGISTRY.restricted_registry([name]).collect() for sample in family.samples)
    return next((sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)), None)


def risen(name: str, before: float | None = 0.0, **labels: str) -> float:
    """By how much a counter rose since it was `before`; one that does not exist yet is a mistake."""
    value = shown(name, **labels)
    assert value is not None, f"{name}{labels} is not there"
    return value - (before or 0.0)
