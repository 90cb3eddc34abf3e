"""The registry's settings."""

from typing import ClassVar

from shared.settings import ServiceSettings


class RegistrySettings(ServiceSettings):
    """The registry needs nothing beyond what every service does."""

    service: ClassVar[str] = "registry"
