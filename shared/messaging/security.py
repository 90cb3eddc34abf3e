"""How Kafka clients reach brokers that want TLS or a login: what kafka-python is told, in one place for all of them."""

import ssl
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import SecretStr

from shared.errors import TemporaryError
from shared.settings import KafkaSettings


class UnusableCertificateError(TemporaryError):
    """A file of certificates or keys cannot be read; it may come, as files of secrets do."""


@dataclass(frozen=True)
class KafkaSecurity:
    """What a client proves, and whom it believes.

    Attributes:
        protocol: ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``.
        ca_file: PEM file of the brokers' authority; empty for the system's.
        cert_file: PEM file of the client's certificate; empty for none.
        key_file: of its key.
        mechanism: ``PLAIN``, ``SCRAM-SHA-256`` or ``SCRAM-SHA-512``.
    """

    protocol: str = "PLAINTEXT"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    mechanism: str = ""
    username: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """As the settings say."""
        return cls(
            settings.kafka_security_protocol, settings.kafka_ca_file, settings.kafka_cert_file,
            settings.kafka_key_file, settings.kafka_sasl_mechanism, settings.kafka_username, settings.kafka_password,
        )

    def options(self) -> dict[str, Any]:
        """Keyword arguments for a consumer, producer or admin client. Files are read anew: certificates are renewed.

        Raises:
            UnusableCertificateError: a file is missing, or not what it should be.
        """
        told: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.endswith("SSL"):
            told["ssl_context"] = self._context()
        if self.protocol.startswith("SASL"):
            told |= {
                "sasl_mechanism": self.mechanism, "sasl_plain_username": self.username,
                "sasl_plain_password": self.password.get_secret_value(),
            }
        return told

    def _context(self) -> ssl.SSLContext:
        """A context that checks certificate and host name."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise UnusableCertificateError(f"cannot use the authority in {self.ca_file}: {error}") from error
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except OSError as error:
                where = f"{self.cert_file} with {self.key_file}"
                raise UnusableCertificateError(f"cannot use the certificate in {where}: {error}") from error
        return context


PLAINTEXT = KafkaSecurity()
