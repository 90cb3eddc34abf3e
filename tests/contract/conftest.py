"""One contract, every broker: what the loops rely on must hold wherever they run.

The brokers are Tansu with its memory engine, Tansu with its S3 engine, and, with ``-m apache_kafka`` and
TUNELOOP_TEST_KAFKA=host:port, a real Apache Kafka. What a broker is known to do differently is in `DEVIATIONS`; the
day it does it right, its test fails here and the entry goes.
"""

import gc
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from shared.messaging.broker import KafkaSink, KafkaSource, RecordSink, TableSource
from shared.settings import S3Settings
from tests.support.broker import start_tansu
from tests.support.memory_broker import MemoryBroker
from tests.support.ports import free_port

TANSU = {
    "test_end_offsets_count_every_record_of_a_batch": "end_offsets counts batches, not records: use highwater()",
    "test_a_member_may_leave_in_the_middle_of_joining": "it stays, as a leader that never answers",
    "test_an_aborted_transaction_is_invisible": "read_committed shows aborted records",
    "test_records_can_be_deleted_up_to_an_offset": "DeleteRecords is not implemented",
    "test_a_position_beyond_the_end_is_reset": "a fetch beyond the end answers nothing instead of OFFSET_OUT_OF_RANGE",
}
DEVIATIONS = {
    "tansu-memory": {**TANSU, "test_records_and_offsets_survive_a_restart": "the memory engine forgets"},
    "tansu-s3": TANSU,
    "apache-kafka": {},
}
# Whether the member leaves in the middle of its join or just after is up to the machine, so it passes now and then.
RACES = {"test_a_member_may_leave_in_the_middle_of_joining"}


@dataclass(frozen=True)
class Broker:
    """A running broker.

    Attributes:
        session_timeout_ms: the shortest that it accepts, or that makes sense.
        restart: ends it and starts it again at the same address; None where a test may not.
    """

    bootstrap: str
    session_timeout_ms: int = 2000
    restart: Callable[[], None] | None = None

    def create_topic(self, partitions: int = 1) -> str:
        """A topic of its own for a test."""
        name = f"contract.{uuid.uuid4().hex[:12]}"
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])
        finally:
            admin.close()
        return name


class Restartable:
    """A Tansu that can be ended and started again in place."""

    def __init__(self, start: Callable[[int], AbstractContextManager[str]]) -> None:
        self._start = start
        self._port = free_port()
        self._running = ExitStack()
        self.bootstrap = self._running.enter_context(start(self._port))

    def restart(self) -> None:
        """End and start."""
        self.close()
        self._running.enter_context(self._start(self._port))

    def close(self) -> None:
        """End."""
        self._running.close()


@contextmanager
def tansu(storage: str, env: dict[str, str]) -> Iterator[Broker]:
    """A Tansu for the contract."""
    running = Restartable(lambda port: start_tansu(storage, port=port, env=env))
    try:
        yield Broker(running.bootstrap, restart=running.restart)
    finally:
        running.close()


def tansu_on(s3: S3Settings) -> AbstractContextManager[Broker]:
    """A Tansu whose log is in S3."""
    return tansu(f"s3://{s3.s3_bucket}/", {
        "AWS_ENDPOINT": s3.s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": s3.s3_region,
        "AWS_ACCESS_KEY_ID": s3.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": s3.s3_secret_key.get_secret_value(),
    })


@contextmanager
def apache_kafka() -> Iterator[Broker]:
    """The Apache Kafka that the environment names."""
    bootstrap = os.environ.get("TUNELOOP_TEST_KAFKA", "")
    if not bootstrap:
        pytest.skip("set TUNELOOP_TEST_KAFKA=host:port to run the contract against Apache Kafka")
    yield Broker(bootstrap, session_timeout_ms=6000)


REAL = [
    "tansu-memory",
    pytest.param("tansu-s3", marks=pytest.mark.integration),
    pytest.param("apache-kafka", marks=pytest.mark.apache_kafka),
]


@pytest.fixture(scope="session")
def brokers(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Broker]]:
    """Starts a broker when a test first asks for it."""
    running: dict[str, Broker] = {}
    with ExitStack() as stack:

        def get(name: str) -> Broker:
            if name not in running:
                running[name] = stack.enter_context(start(name))
            return running[name]

        def start(name: str) -> AbstractContextManager[Broker]:
            if name == "apache-kafka":
                return apache_kafka()
            if name == "tansu-s3":
                return tansu_on(request.getfixturevalue("s3_settings"))
            return tansu("memory://tansu/", {})

        yield get


@pytest.fixture(params=REAL)
def broker_name(request: pytest.FixtureRequest) -> str:
    """Each real broker in turn."""
    return str(request.param)


@pytest.fixture
def any_broker(broker_name: str, brokers: Callable[[str], Broker]) -> Broker:
    """A running one of that name."""
    return brokers(broker_name)


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> float:
    """Seconds to wait for what should come; where it is known not to come, nobody waits for long."""
    return 10.0 if request.node.get_closest_marker("xfail") else 120.0


@pytest.fixture(autouse=True)
def _sockets_that_kafka_python_forgets() -> Iterator[None]:
    """kafka-python leaves the socket of a client that is closed while it connects or joins to the collector.

    Collected here, or the warning would fail whichever test comes when the collector runs.
    """
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the known deviations; strictly, but where a race decides."""
    for item in items:
        name = getattr(item, "originalname", "")
        params = getattr(getattr(item, "callspec", None), "params", {})
        reason = DEVIATIONS.get(params.get("broker_name", ""), {}).get(name)
        if reason:
            expected = (AssertionError, pytest.fail.Exception)
            item.add_marker(pytest.mark.xfail(strict=name not in RACES, reason=reason, raises=expected))


@dataclass(frozen=True)
class Door:
    """A broker through the loops' own interface."""

    topic: str
    open_source: Callable[[str | None], TableSource]
    open_sink: Callable[[], RecordSink]


@pytest.fixture(params=["model", *REAL])
def door(request: pytest.FixtureRequest, brokers: Callable[[str], Broker]) -> Iterator[Door]:
    """A topic of two partitions on each broker, and on the model that other tests crash."""
    if request.param == "model":
        model = MemoryBroker(partitions=2)
        yield Door("topic", lambda group: model.source(["topic"], group), model.sink)
        return
    broker = brokers(request.param)
    topic = broker.create_topic(partitions=2)
    with ExitStack() as stack:

        def source(group: str | None) -> TableSource:
            opened = KafkaSource(broker.bootstrap, [topic], group=group, session_timeout_ms=broker.session_timeout_ms)
            stack.callback(opened.close)
            return opened

        def sink() -> RecordSink:
            opened = KafkaSink(broker.bootstrap, "contract")
            stack.callback(opened.close)
            return opened

        yield Door(topic, source, sink)
