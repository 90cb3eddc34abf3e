"""`spec.capture` of a pipeline."""

from pydantic import Field

from shared.spec_part import SpecPart


class CaptureRules(SpecPart):
    """Samples of the route's traffic, as events for evaluation and for tomorrow's datasets.

    Absent: nothing is captured. docs/gateway.md says what a sample holds, what is scrubbed, and what may be lost.
    """

    share: float = Field(ge=0, le=1, description="of the requests, drawn by a hash of the request's id")
    max_bytes: int = Field(
        default=65_536, ge=1024, le=524_288, description="longer samples, as JSON, are dropped and never cut"
    )
    redact: bool = Field(
        default=True, description="scrub mail addresses, phone, card and account numbers, IP addresses and secrets"
    )
