"""Reads whole topics of Kafka: for what is kept nowhere else, because conversations are not for keeping."""

import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from services.cli.errors import CliError, ExitCode
from services.cli.local.home import Home

VARIABLE = "TUNELOOP_KAFKA_BOOTSTRAP"
KafkaOption = Annotated[str | None, typer.Option(
    "--kafka", envvar=VARIABLE, show_default=False, metavar="HOST:PORT",
    help="Where Kafka is. By default, what `tuneloop up` started.",
)]


def bootstrap(given: str | None) -> str:
    """The brokers to ask.

    Raises:
        CliError: nothing says where they are.
    """
    if given:
        return given
    home = Home.find()
    stack = home.read_stack()
    found = ((stack or {}).get("kafka") or {}).get("bootstrap")
    if not found:
        raise CliError(
            f"{home.stack_file} does not say where Kafka is: run `tuneloop up`, or give --kafka or {VARIABLE}",
            ExitCode.USAGE,
        )
    return str(found)


def read_all(brokers: str, topics: Sequence[str], on_event: Callable[[Any], None], *, seconds: float) -> None:
    """Call `on_event` for each event of some topics, from their beginning to their present end.

    Raises:
        CliError: that took longer than `seconds`, or no broker answers.
    """
    # It takes a quarter of a second to import, which only these commands shall wait for.
    from shared.messaging import TableConsumer

    stop, done = threading.Event(), threading.Event()

    def at_end() -> None:
        done.set()
        stop.set()

    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        TableConsumer(brokers, topics, on_event, on_caught_up=at_end).run(stop)
    finally:
        timer.cancel()
    if not done.is_set():
        raise CliError(
            f"Kafka at {brokers} did not give all of {', '.join(topics)} within {seconds:g} s. Is it there? "
            "If it is, give it longer with --timeout", ExitCode.UNREACHABLE,
        )
