"""What `tuneloop rollouts get` shows of webhooks, and of how a candidate's weight was taken away."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from services.cli.rollout_views import webhooks, withdrawal

TAKEN = {"state": "confirmed", "seconds": 2.345, "sampled_at": "2026-01-01T00:00:00Z", "gateways": 1, "waiting": ""}


def test_each_webhook_has_its_last_answer() -> None:
    console = Console(file=StringIO(), width=120)
    console.print(webhooks([
        {"name": "gate", "type": "confirm-promotion", "outcome": "refused", "calls": 7, "failed": 7,
         "said": "answered 403: frozen"},
        {"name": "team", "type": "notification", "outcome": "delivered", "calls": 4, "failed": 0, "said": ""},
    ]))
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[0] == "WEBHOOK TYPE OUTCOME CALLS FAILED LAST ANSWER"
    assert lines[-2] == "gate confirm-promotion refused 7 7 answered 403: frozen"
    assert lines[-1] == "team notification delivered 4 0 -"


@pytest.mark.parametrize(("item", "told"), [
    (None, ""),
    (TAKEN, "2.3s after the scrape that showed it, at the gateway"),
    ({**TAKEN, "sampled_at": None, "gateways": 3}, "2.3s after the decision, at all 3 gateways"),
    ({**TAKEN, "state": "waiting", "seconds": None}, "waiting: the gateways are asked"),
    ({**TAKEN, "state": "unconfirmed", "seconds": None, "waiting": "gw:1 is late"}, "unconfirmed: gw:1 is late"),
])
def test_it_says_since_when_and_where_or_who_is_waited_for(item: dict[str, Any] | None, told: str) -> None:
    assert withdrawal(item) == told
