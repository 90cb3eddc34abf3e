"""A gateway in front of two model servers, of which each has what the other lacks."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.gateway_process import GatewayProcess, running_gateway, running_model_server, write_table
from tests.support.ports import free_port
from tests.support.routes import BASE_MODEL, canary, loaded, ready, route, target

TROUBLED = "troubled"
# Seconds: a client that is to leave first does so well before.
READ_TIMEOUT = 2.5


@dataclass
class Stack:
    """A gateway and the URLs of its model servers."""

    gateway: GatewayProcess
    one: str
    two: str


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Routes: `intents` (base, candidate intents@1 at 30 %), `plain` (plain@1), and some in trouble.

    `moved` is confirmed by a replica that lost it and by one that has it, `lost` only by one that lost it, `half` by a
    replica that is down and by one that is up, `down` only by one that is down, `nowhere` by nobody. Those in trouble
    have a base model of their own, so that no other route is sent to their replicas.
    """
    state = tmp_path_factory.mktemp("gateway")
    dead, dead_too = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    models = (BASE_MODEL, "intents@1", "plain@1")
    with running_model_server(*models) as one, running_model_server("moved@1", "half@1") as two:
        write_table(
            state,
            canary("intents", None, "intents@1", 3_000, revision=4, salt="stack"),
            route("plain", target("plain@1", "stable", 10_000)),
            *(route(name, target(f"{name}@1", "stable", 10_000), base_model=TROUBLED)
              for name in ("moved", "lost", "half", "down", "nowhere")),
            ready("one", one), loaded("one", one, "intents@1"), loaded("one", one, "plain@1"),
            *(loaded(*fact, base_model=TROUBLED) for fact in (
                ("forgetful", one, "moved@1"), ("forgetful", one, "lost@1"), ("two", two, "moved@1"),
                ("two", two, "half@1"), ("dead", dead, "half@1"), ("dead-too", dead_too, "down@1"))),
        )
        with running_gateway(
            state, READ_TIMEOUT_SECONDS=str(READ_TIMEOUT), MAX_BODY_BYTES="20000", BODY_TIMEOUT_SECONDS="1",
            MAX_UNITS="1000",
        ) as gateway:
            yield Stack(gateway, one, two)
