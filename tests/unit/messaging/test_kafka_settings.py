"""How Kafka is reached: what fits together is told to every client, and what does not is refused at the start."""

import ssl
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings
from shared.messaging.security import KafkaSecurity, UnusableCertificateError
from shared.settings import KafkaSettings


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    leaf = authority.issue_cert("client@example.com")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "user.crt")
    leaf.private_key_pem.write_to_path(tmp_path / "user.key")
    return {"kafka_ca_file": str(tmp_path / "ca.crt"), "kafka_cert_file": str(tmp_path / "user.crt"),
            "kafka_key_file": str(tmp_path / "user.key")}


def test_by_default_there_is_neither_tls_nor_a_login() -> None:
    assert KafkaSecurity.of(KafkaSettings()).options() == {"security_protocol": "PLAINTEXT"}


def test_all_that_is_given_reaches_the_client(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = {**files, "kafka_security_protocol": "SASL_SSL", "kafka_username": "trainer", "kafka_password": "sesame"}
    for name, value in told.items():
        monkeypatch.setenv(f"TUNELOOP_{name.upper()}", value)
    settings = GatewaySettings()
    assert "sesame" not in repr(settings)
    assert "sesame" not in repr(KafkaSecurity.of(settings))
    options = KafkaSecurity.of(settings).options()
    context = options.pop("ssl_context")
    assert options == {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512",
                       "sasl_plain_username": "trainer", "sasl_plain_password": "sesame"}
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.cert_store_stats()["x509_ca"] == 1, "no other authority is believed"


@pytest.mark.parametrize("name", ["kafka_ca_file", "kafka_cert_file"])
def test_a_file_that_is_no_certificate_is_named(files: dict[str, str], name: str) -> None:
    Path(files[name]).write_text("nothing")
    settings = KafkaSettings(kafka_security_protocol="SSL", **files)  # type: ignore[arg-type]
    with pytest.raises(UnusableCertificateError, match=files[name]):
        KafkaSecurity.of(settings).options()


@pytest.mark.parametrize(("told", "says"), [
    ({"kafka_ca_file": "/ca"}, "TUNELOOP_KAFKA_CA_FILE: TUNELOOP_KAFKA_SECURITY_PROTOCOL=PLAINTEXT uses no TLS"),
    ({"kafka_security_protocol": "SSL", "kafka_username": "u"}, "TUNELOOP_KAFKA_USERNAME: .* uses no login"),
    ({"kafka_security_protocol": "SASL_SSL", "kafka_username": "u"}, "SASL_SSL needs TUNELOOP_KAFKA_USERNAME and"),
    ({"kafka_security_protocol": "SSL", "kafka_key_file": "/k"}, "TUNELOOP_KAFKA_KEY_FILE: .* together"),
    ({"kafka_security_protocol": "TLS"}, "'SSL'"),
    ({"kafka_sasl_mechanism": "GSSAPI"}, "'SCRAM-SHA-512'"),
])
def test_what_does_not_fit_is_refused_with_the_remedy(told: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        KafkaSettings(**told)  # type: ignore[arg-type]
