"""What is known of a request when it is over, and who may want to know: the seam for capture, shadow and feedback."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from services.gateway.plan import Target
from services.gateway.target_metrics import Outcome


class Record(NamedTuple):
    """One finished exchange.

    Attributes:
        request_id: the answer's ``x-tuneloop-request-id``.
        unit: fingerprint of the unit under the route's present salt.
        route: the route's name; `target` is what was chosen of it.
        path: of the door.
        request: the body as the client sent it.
        status: what the client got; None where it left before any answer.
        error: code of the gateway's own error; empty where there was none.
        started: seconds since the epoch, when the request was whole.
        seconds: from then to the end.
        first_token: seconds from then to a stream's first output; None for others.
        usage: the answer's `usage`; None where it has none.
        response: the first bytes of the answer's body, as many as the observer wished for; None where that was none.
        truncated: the answer was longer.
        refused: the answer refuses.
        head: header lines that the model server got.
    """

    request_id: str
    unit: int
    route: str
    target: Target
    path: str
    request: bytes
    status: int | None
    outcome: Outcome
    error: str
    started: float
    seconds: float
    first_token: float | None
    usage: Mapping[str, Any] | None
    response: bytes | None
    truncated: bool
    refused: bool = False
    head: bytes = b""


class Observer(Protocol):
    """Told of exchanges, on the event loop: every method returns at once, and what they raise is logged."""

    def wants(self, request_id: str, target: Target, request: bytes) -> int | None:
        """An exchange begins: how many bytes of its answer to keep for its record; None where none is wanted."""

    def answered(self, request_id: str, target: Target, unit: int, begun: float) -> None:
        """It is over, and the client got an answer, if only an error.

        Args:
            unit: fingerprint of who asked, under the salt of then.
            begun: when the exchange began, on the clock of `UnitEvents`.
        """

    def finished(self, record: Record) -> None:
        """It is over, and its record was wanted. Called exactly once for each such exchange."""
