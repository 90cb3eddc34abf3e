"""S3 with a certificate of an authority that only we know, as in a company's own network."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from shared.errors import InvalidInputError, TemporaryError
from shared.s3 import connect_store
from shared.settings import S3Settings
from tests.support.ports import free_port
from tests.support.tls import tls_in_front

pytestmark = pytest.mark.integration


@pytest.fixture
def over_tls(s3_settings: S3Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Settings]:
    """The settings of a service that knows the authority."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    port, (_, _, inner) = free_port(), s3_settings.s3_endpoint.rpartition(":")
    with tls_in_front(port, int(inner), context):
        yield s3_settings.model_copy(
            update={"s3_endpoint": f"https://127.0.0.1:{port}", "s3_ca_file": str(tmp_path / "ca.crt")}
        )


def test_artifacts_come_from_a_service_with_an_authority_of_one_s_own(over_tls: S3Settings) -> None:
    with connect_store(over_tls) as store:
        store.put_bytes("over-tls/x", b"sealed")
        assert store.get_bytes("over-tls/x") == b"sealed"


def test_who_does_not_know_the_authority_says_so(over_tls: S3Settings) -> None:
    with (
        connect_store(over_tls.model_copy(update={"s3_ca_file": ""})) as store,
        pytest.raises(TemporaryError, match=r"https://127\.0\.0\.1:\d+ .*certificate verify failed"),
    ):
        store.get_bytes("over-tls/x")
    with pytest.raises(InvalidInputError, match=r"TUNELOOP_S3_CA_FILE=/no/ca\.crt: .*No such file"):
        connect_store(over_tls.model_copy(update={"s3_ca_file": "/no/ca.crt"}))
