"""What each topic is on a broker: how many partitions, and what stays in it for how long.

Databases are the truth, and they have taken a fact within moments. What must stay is what somebody reads anew at each
start (routes and what is loaded: `shared.messaging.table_consumer`), and enough of the rest to outlast an outage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from shared.events.envelope import Topic

DAY = timedelta(days=1)
# What an operator looks at some day; not so long that it fills a disk.
DLQ_RETENTION = 30 * DAY


@dataclass(frozen=True)
class TopicPolicy:
    """A topic as the platform makes it.

    Attributes:
        partitions: so many consumers of one group share the work; a key's order holds at any number.
        retention: how long facts stay; None for always.
        compacted: of each key at least the newest fact stays, always, and older ones for `retention`.
    """

    partitions: int
    retention: timedelta | None = None
    compacted: bool = False

    def config(self) -> dict[str, str]:
        """The same in Kafka's words."""
        span = -1 if self.retention is None else int(self.retention.total_seconds() * 1000)
        if self.compacted:
            return {"cleanup.policy": "compact", "min.compaction.lag.ms": str(max(0, span))}
        return {"cleanup.policy": "delete", "retention.ms": str(span)}


POLICIES: Mapping[Topic, TopicPolicy] = {
    # The newest fact about a pipeline, a route, or an adapter on a replica says all that is still true.
    Topic.PIPELINES: TopicPolicy(3, 30 * DAY, compacted=True),
    Topic.ROUTES: TopicPolicy(3, 30 * DAY, compacted=True),
    Topic.ADAPTERS: TopicPolicy(3, 7 * DAY, compacted=True),
    Topic.DATASETS: TopicPolicy(3),
    Topic.EVALUATIONS: TopicPolicy(3),
    Topic.MODELS: TopicPolicy(3),
    Topic.ROLLOUTS: TopicPolicy(3),
    Topic.DRIFT: TopicPolicy(3),
    # Progress every few seconds; the registry has what lasts.
    Topic.RUNS: TopicPolicy(3, 90 * DAY),
    # What people wrote is kept no longer than it takes to be collected.
    Topic.SAMPLES: TopicPolicy(6, 3 * DAY),
    Topic.FEEDBACK: TopicPolicy(6, 7 * DAY),
    # Of rollouts in flight; whoever counts has counted within moments.
    Topic.UNITS: TopicPolicy(3, 3 * DAY),
}


def declared() -> dict[str, TopicPolicy]:
    """Every topic by name, dead-letter topics included."""
    return {
        name: policy
        for topic, own in POLICIES.items()
        for name, policy in (
            (topic.value, own), (topic.dlq, TopicPolicy(1, min(own.retention or DLQ_RETENTION, DLQ_RETENTION))),
        )
    }
