"""Gauges that look at the world at each scrape, so that they are true even while the loop that they are about hangs."""

import math
from collections.abc import Callable

from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError


def ask(gauge: Gauge, measure: Callable[[], float]) -> None:
    """Let each scrape measure; NaN where the database is down, which must not hide the process's other metrics."""

    def guarded() -> float:
        try:
            return measure()
        except SQLAlchemyError:
            return math.nan

    gauge.set_function(guarded)
