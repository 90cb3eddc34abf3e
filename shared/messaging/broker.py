"""The door to Kafka: all that the loops ask of a broker, on kafka-python.

`RecordSource` and `RecordSink` are deliberately small, so that a test can stand in between and crash at each write.
kafka-python's objects are used by one thread each; they do their I/O in threads of their own.
"""

import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    RetriableError,
    UnknownMemberIdError,
)
from kafka.net.compat import KafkaNetClient
from kafka.structs import OffsetAndMetadata

from shared.clock import monotonic
from shared.errors import TemporaryError
from shared.messaging.headers import Headers
from shared.messaging.security import PLAINTEXT, KafkaSecurity, UnusableCertificateError
from shared.telemetry import get_logger

log = get_logger(__name__)

OPEN_TIMEOUT_MS = 5_000
DELIVERY_TIMEOUT_MS = 10_000
# Topics that appear, or get partitions, after a consumer started are seen after this long.
METADATA_MAX_AGE_MS = 10_000
_MOVED = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


Client = TypeVar("Client", KafkaConsumer, KafkaProducer)


class BrokerUnavailableError(TemporaryError):
    """The broker does not answer, or answers with an error; try again."""


@dataclass(frozen=True)
class Record:
    """A record as it came from a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class Outgoing:
    """A record to be written; records with one key go to one partition."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class RecordSource(Protocol):
    """A member of a consumer group."""

    def poll(self, seconds: float) -> list[Record]:
        """The next records, in order per partition; empty after `seconds` without any."""
        ...

    def commit(self, records: Sequence[Record]) -> None:
        """Remember, in the broker, that this group has these records and all before them."""
        ...

    def lag(self) -> Mapping[str, int]:
        """Records by topic that this member's partitions hold and that it has not polled, as far as the broker told."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class TableSource(RecordSource, Protocol):
    """A source that knows where its topics end."""

    def at_end(self) -> bool:
        """Whether all that was written has been polled, as far as the broker has told."""
        ...


class RecordSink(Protocol):
    """A producer."""

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        """Write records and wait for the broker; for each the error, or None once it is durable."""
        ...

    def close(self) -> None:
        """Give up what is still under way."""
        ...


class _Membership(ConsumerRebalanceListener):
    """Whether the consumer is in the middle of joining its group."""

    def __init__(self) -> None:
        self.joining = False

    def on_partitions_revoked(self, _: object) -> None:
        self.joining = True

    def on_partitions_assigned(self, _: object) -> None:
        self.joining = False


class KafkaSource:
    """Reads topics, from the beginning where there is no offset yet.

    Args:
        newest: instead of from the beginning: only what is written from now on.
        group: shares the partitions among its members and remembers offsets; without one, all of it is read each time.
    """

    def __init__(
        self, bootstrap: str, topics: Sequence[str], *, group: str | None, session_timeout_ms: int = 10_000,
        security: KafkaSecurity = PLAINTEXT, newest: bool = False,
    ) -> None:
        self._membership = _Membership()
        self._join_seconds = session_timeout_ms / 1000
        self._consumer: KafkaConsumer = _connect(
            KafkaConsumer, bootstrap, security,
            group_id=group,
            client_id=group or "tuneloop-table",
            auto_offset_reset="latest" if newest else "earliest",
            enable_auto_commit=False,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=session_timeout_ms // 3,
        )
        self._consumer.subscribe(topics, listener=self._membership)

    def poll(self, seconds: float) -> list[Record]:
        try:
            batches = self._consumer.poll(timeout_ms=seconds * 1000)
        except KafkaError as error:
            raise BrokerUnavailableError(f"cannot read from Kafka: {error!r}") from error
        return [to_record(item) for batch in batches.values() for item in batch]

    def commit(self, records: Sequence[Record]) -> None:
        # Records come in order, so the last one of a partition wins.
        offsets = {
            TopicPartition(item.topic, item.partition): OffsetAndMetadata(item.offset + 1, "", -1) for item in records
        }
        try:
            self._consumer.commit(offsets, timeout_ms=OPEN_TIMEOUT_MS)
        except _MOVED as error:
            # Whoever has the partitions now reads these records again, and its inbox drops them.
            log.info("partitions moved before their offsets were committed", error=repr(error))
        except KafkaError as error:
            raise BrokerUnavailableError(f"cannot commit offsets to Kafka: {error!r}") from error

    def at_end(self) -> bool:
        # A partition's end is known from its first fetch on. An empty poll proves nothing: it may have been too early.
        behind = self._behind()
        return bool(behind) and all(count is not None and count <= 0 for count in behind.values())

    def lag(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for place, count in self._behind().items():
            found[place.topic] += max(0, count or 0)
        return found

    def _behind(self) -> dict[TopicPartition, int | None]:
        """Records that each partition has and that were not polled; None where its end is not known yet."""
        ends = {place: self._consumer.highwater(place) for place in self._consumer.assignment()}
        return {
            place: None if end is None else end - (self._consumer.position(place, timeout_ms=OPEN_TIMEOUT_MS) or 0)
            for place, end in ends.items()
        }

    def close(self) -> None:
        # Tansu keeps a member that leaves in the middle of joining, as a leader that never answers: nobody else would
        # ever get a partition. So a join that has begun is brought to its end first.
        deadline = monotonic() + self._join_seconds
        with suppress(KafkaError):
            while self._membership.joining and monotonic() < deadline:
                self._consumer.poll(timeout_ms=100, max_records=1)
        self._consumer.close(autocommit=False, timeout_ms=OPEN_TIMEOUT_MS)


class KafkaSink:
    """Writes records with all acknowledgements; idempotent, so that a retry inside makes no second copy."""

    def __init__(self, bootstrap: str, client_id: str, security: KafkaSecurity = PLAINTEXT) -> None:
        self._producer: KafkaProducer = _connect(
            KafkaProducer, bootstrap, security,
            client_id=client_id,
            acks="all",
            # Shorter than a service may take to stop.
            request_timeout_ms=8_000,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            max_block_ms=OPEN_TIMEOUT_MS,
        )

    def send(self, records: Sequence[Outgoing]) -> list[Exception | None]:
        futures: list[Any] = []
        for record in records:
            # Sending waits for metadata where the broker is gone: once is enough for all.
            gone = futures and isinstance(futures[-1], RetriableError)
            futures.append(futures[-1] if gone else self._begin(record))
        return [future if isinstance(future, Exception) else _outcome(future) for future in futures]

    def _begin(self, record: Outgoing) -> Any:
        try:
            return self._producer.send(record.topic, record.value, key=record.key, headers=list(record.headers))
        except KafkaError as error:
            return error

    def close(self) -> None:
        # It complains about records under way; those come to their end by the delivery timeout.
        with suppress(KafkaTimeoutError):
            self._producer.close(timeout=1)


def _connect(kind: Callable[..., Client], bootstrap: str, security: KafkaSecurity, **options: Any) -> Client:
    """A client of kafka-python that has met a broker."""
    require_reachable(bootstrap)
    opened: list[KafkaNetClient] = []

    def open_client(**config: Any) -> KafkaNetClient:
        opened.append(KafkaNetClient(**config))
        return opened[-1]

    try:
        return kind(
            bootstrap_servers=bootstrap.split(","), metadata_max_age_ms=METADATA_MAX_AGE_MS,
            bootstrap_timeout_ms=OPEN_TIMEOUT_MS, metrics_enabled=False, kafka_client=open_client,
            **security.options(), **options,
        )
    except (KafkaError, UnusableCertificateError) as error:
        # A broker that listens and refuses us is asked again and again; kafka-python would leave a thread each time.
        for client in opened:
            client.close()
        where = f"{bootstrap} by {security.protocol}"
        raise BrokerUnavailableError(f"cannot reach Kafka at {where}: {error!r}") from error


def require_reachable(bootstrap: str) -> None:
    """Fail early where no broker listens. kafka-python would find out too, but it leaves a thread behind each time."""
    problems = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=OPEN_TIMEOUT_MS / 1000):
                return
        except (OSError, ValueError) as error:
            problems.append(f"{address}: {error}")
    raise BrokerUnavailableError(f"no Kafka broker listens; {'; '.join(problems)}")


def _outcome(future: Any) -> Exception | None:
    try:
        future.get(timeout=DELIVERY_TIMEOUT_MS / 1000 + 5)
    except KafkaError as error:
        return error
    return None


def to_record(item: Any) -> Record:
    """kafka-python's record as ours."""
    headers = tuple((name, value or b"") for name, value in item.headers or ())
    return Record(item.topic, item.partition, item.offset, item.key, item.value, headers)


class Link:
    """Logs that the broker went away or came back, once each time it changes."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._is_up: bool | None = None

    def up(self) -> None:
        """The broker answers."""
        if self._is_up is False:
            log.info("the broker answers again", loop=self._loop)
        self._is_up = True

    def down(self, error: Exception) -> None:
        """The broker failed; the loop tries again."""
        if self._is_up is not False:
            log.warning("the broker is unavailable; trying again until it answers", loop=self._loop, error=str(error))
        self._is_up = False
