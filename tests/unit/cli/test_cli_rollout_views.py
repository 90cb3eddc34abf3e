"""What `tuneloop rollouts get` shows of webhooks."""

from io import StringIO

from rich.console import Console

from services.cli.rollout_views import webhooks


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
