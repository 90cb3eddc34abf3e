"""What Prometheus answers with, and why it sometimes answers nothing that may be used."""

from dataclasses import dataclass, field

from services.rollout.counts import Reading


@dataclass(frozen=True)
class Sample:
    """The newest sample of one series: its labels without the metric's name, its value, its time in Unix seconds."""

    labels: dict[str, str] = field(hash=False)
    value: float
    at: float

    @property
    def target(self) -> str:
        return f"{self.labels.get('job', '')}/{self.labels.get('instance', '')}"


@dataclass(frozen=True)
class NoData:
    """Why a guardrail cannot be judged now. It is neither success nor failure.

    Attributes:
        kind: one word for logs and metrics, stable from look to look.
        reason: continues "no data because ...".
        others: what the same look found of others than the candidate. Nothing can be judged by it, but who was scraped
            is known from then on, and what the candidate's series begin with counts.
    """

    kind: str
    reason: str
    others: tuple[Reading, ...] = field(default=(), compare=False)
