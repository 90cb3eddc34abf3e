"""`tuneloop rollouts report`: a rollout as a page to keep."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import Json, Service
from services.cli.endpoints import RolloutUrl
from services.cli.errors import CliError
from services.cli.output import OutputFormat, OutputOption, emit, pairs
from services.cli.report.page import page

# The most that the controller gives at once, and how often it is asked: two weeks with a look each minute.
_PAGE, _PAGES = 1000, 20


def report(
    rollout: Annotated[str, typer.Argument(help="Id of the rollout.")],
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Where to write it; ID.html by default.")] = None,
    output: OutputOption = OutputFormat.TABLE,
    rollout_url: RolloutUrl = None,
) -> None:
    """Write a rollout's decisions as a page: e-values against their thresholds as a picture, and all the numbers.

    One HTML file without anything from elsewhere. Of very many looks it has every so-manieth, and all that changed
    something.
    """
    with Service("rollout", rollout_url) as service:
        item, decisions = fetch(service, rollout)
    target = file or Path(f"{rollout}.html")
    write(target, page(f"Rollout {rollout}", [(item["model_version"], item, decisions)]))
    emit({"file": str(target), "decisions": len(decisions)}, output, lambda told: pairs({
        "written": told["file"], "decisions": str(told["decisions"]),
    }))


def fetch(service: Service, rollout: str) -> tuple[Json, list[Json]]:
    """A rollout and its decisions, newest first; of more than 20,000 the newest."""
    item, found = service.get("rollouts", rollout), list[Json]()
    for _ in range(_PAGES):
        before = found[-1]["id"] if found else None
        more = service.get("rollouts", rollout, "decisions", limit=_PAGE, before=before)["items"]
        found += more
        if len(more) < _PAGE:
            break
    return item, found


def write(target: Path, text: str) -> None:
    """The page into its file.

    Raises:
        CliError: the file cannot be written.
    """
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{target}: cannot be written: {error.strerror}") from error
