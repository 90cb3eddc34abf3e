"""Where the services are: an option or a ``TUNELOOP_*_URL`` variable, else what ``tuneloop up`` wrote down."""

import os
from typing import Annotated, Any

import typer

from services.cli.errors import CliError, ExitCode
from services.cli.local.home import Home

# Services that answer /v1/inbox, in the order of the loop.
INBOX_SERVICES = ("registry", "data_ingest", "trainer", "evaluator", "rollout", "drift", "serving")


def _option(service: str) -> Any:
    title = service.replace("_", "-")
    return typer.Option(
        f"--{title}-url", envvar=variable(service), show_default=False, metavar="URL",
        help=f"Where the {service} service is. By default, what `tuneloop up` started.",
    )


def variable(service: str) -> str:
    """The environment variable that names a service's URL."""
    return f"TUNELOOP_{service.upper()}_URL"


RegistryUrl = Annotated[str | None, _option("registry")]
DataIngestUrl = Annotated[str | None, _option("data_ingest")]
RolloutUrl = Annotated[str | None, _option("rollout")]
TrainerUrl = Annotated[str | None, _option("trainer")]
DriftUrl = Annotated[str | None, _option("drift")]
GatewayUrl = Annotated[str | None, _option("gateway")]


def resolve(service: str, explicit: str | None = None) -> str:
    """The base URL of a service, without a slash at its end.

    Raises:
        CliError: nothing says where it is, or what says so is unreadable.
    """
    given = explicit or os.environ.get(variable(service))
    if given:
        return _checked(given, f"--{service.replace('_', '-')}-url or {variable(service)}")
    home = Home.find()
    path, stack = home.stack_file, home.read_stack()
    if stack is None:
        raise CliError(
            f"no stack here ({path} does not exist): run `tuneloop up`, or set {variable(service)}", ExitCode.USAGE
        )
    url = (stack.get("services", {}).get(service) or {}).get("url")
    if not url:
        raise CliError(
            f"{path} does not say where the {service} service is: run `tuneloop up`, or set {variable(service)}",
            ExitCode.USAGE,
        )
    return _checked(str(url), str(path))


def _checked(url: str, where: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise CliError(f"{where}: {url!r} is not a URL; it must begin with http:// or https://", ExitCode.USAGE)
    return url.rstrip("/")


def s3_environment() -> dict[str, str]:
    """Where artifacts are, as settings in an environment: nothing where this environment says so already, else what
    `tuneloop up` started, if anything.
    """
    if os.environ.get("TUNELOOP_S3_ENDPOINT") or os.environ.get("TUNELOOP_S3_BUCKET"):
        return {}
    home = Home.find()
    where = (home.read_stack() or {}).get("s3")
    if not where:
        return {}
    keys = home.credentials()
    return {
        "TUNELOOP_S3_ENDPOINT": where["endpoint"], "TUNELOOP_S3_BUCKET": where["bucket"],
        "TUNELOOP_S3_ACCESS_KEY": keys.access_key, "TUNELOOP_S3_SECRET_KEY": keys.secret_key,
    }
