"""Clients and brokers prove to each other who they are: by TLS in both directions, and by a password."""

import gc
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from shared.messaging import broker as door
from shared.messaging.broker import BrokerUnavailableError, KafkaSink, KafkaSource, Outgoing
from shared.messaging.security import KafkaSecurity
from shared.messaging.topics import create_declared_topics
from tests.support.broker import start_tansu
from tests.support.ports import free_port
from tests.support.sasl import Login
from tests.support.tls import tls_in_front
from tests.support.wait import eventually

# kafka-python closes its client, but the sockets of failed handshakes only when they are collected.
pytestmark = [
    pytest.mark.integration, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TOPIC = "tuneloop.datasets"


@pytest.fixture(autouse=True)
def _refusals_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "OPEN_TIMEOUT_MS", 1_500)


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_to_the_tests_of_others() -> Iterator[None]:
    yield
    # Here and not in the tests: until they are over, the errors that they caught hold on to the sockets.
    gc.collect()


def carry(bootstrap: str, security: KafkaSecurity) -> None:
    """A record goes there and back."""
    with closing(KafkaSink(bootstrap, "test", security)) as sink:
        assert sink.send([Outgoing(TOPIC, b"k", b"v", ())]) == [None]
    with closing(KafkaSource(bootstrap, [TOPIC], group=None, security=security)) as source:
        [record] = eventually(lambda: source.poll(0.2), what="the record")
        assert (record.key, record.value) == (b"k", b"v")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Iterator[tuple[str, KafkaSecurity]]:
    """A broker that asks for a certificate, and a client that has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("trainer@example.com")
    ca, cert, key = (tmp_path / name for name in ("ca.crt", "user.crt", "user.key"))
    authority.cert_pem.write_to_path(ca)
    client.cert_chain_pems[0].write_to_path(cert)
    client.private_key_pem.write_to_path(key)
    port, inner = free_port(), free_port()
    with start_tansu(port=inner, advertised=port), tls_in_front(port, inner, context):
        yield f"127.0.0.1:{port}", KafkaSecurity("SSL", str(ca), str(cert), str(key))


def test_records_go_through_tls_with_a_certificate_on_both_sides(tls: tuple[str, KafkaSecurity]) -> None:
    bootstrap, security = tls
    assert TOPIC in create_declared_topics(bootstrap, security)
    carry(bootstrap, security)


def test_who_has_no_certificate_is_refused(tls: tuple[str, KafkaSecurity]) -> None:
    bootstrap, security = tls
    before = set(threading.enumerate())
    with pytest.raises(BrokerUnavailableError, match=f"{bootstrap} by SSL"):
        KafkaSink(bootstrap, "test", replace(security, cert_file="", key_file=""))
    eventually(lambda: set(threading.enumerate()) <= before, what="the end of the client's thread")


def test_a_broker_whose_authority_is_another_is_not_believed(tls: tuple[str, KafkaSecurity], tmp_path: Path) -> None:
    bootstrap, security = tls
    other = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(other)
    with pytest.raises(BrokerUnavailableError, match=f"{bootstrap} by SSL"):
        KafkaSource(bootstrap, [TOPIC], group=None, security=replace(security, ca_file=str(other)))


@pytest.fixture
def login(authority: trustme.CA, tmp_path: Path) -> Iterator[tuple[str, KafkaSecurity]]:
    """A broker that asks for a password, as Strimzi's listener with scram-sha-512 does, and a client that knows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(ca)
    port, inner = free_port(), free_port()
    with start_tansu(port=inner, advertised=port), tls_in_front(port, inner, context, Login({"tuneloop": "se,same="})):
        yield f"127.0.0.1:{port}", KafkaSecurity(
            "SASL_SSL", str(ca), mechanism="SCRAM-SHA-512", username="tuneloop", password=SecretStr("se,same="),
        )


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256"])
def test_records_go_to_who_knows_the_password(login: tuple[str, KafkaSecurity], mechanism: str) -> None:
    bootstrap, security = login
    security = replace(security, mechanism=mechanism)
    create_declared_topics(bootstrap, security)
    carry(bootstrap, security)


@pytest.mark.parametrize("wrong", [{"password": SecretStr("sesame")}, {"username": "nobody"}, {"mechanism": "PLAIN"}])
def test_who_does_not_know_the_password_is_refused(login: tuple[str, KafkaSecurity], wrong: dict[str, Any]) -> None:
    bootstrap, security = login
    with pytest.raises(BrokerUnavailableError, match=f"{bootstrap} by SASL_SSL"):
        KafkaSink(bootstrap, "test", replace(security, **wrong))


def test_a_file_that_is_not_there_is_named(tls: tuple[str, KafkaSecurity]) -> None:
    bootstrap, security = tls
    with pytest.raises(BrokerUnavailableError, match=r"the authority in /no/ca\.crt: .*No such file"):
        KafkaSink(bootstrap, "test", replace(security, ca_file="/no/ca.crt"))
