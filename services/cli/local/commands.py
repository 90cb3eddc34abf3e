"""`tuneloop up`, `status` and `down`."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.cli.local import control, probes
from services.cli.local.home import Home
from services.cli.local.plan import Options
from services.cli.local.processes import alive, resident_mib
from services.cli.local.supervisor import Request
from services.cli.output import OutputFormat, OutputOption, emit
from shared.errors import TuneloopError

BASE_MODEL = "smollm2-135m-instruct"
_STDERR = Console(stderr=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(up)
    app.command()(status)
    app.command()(down)


def up(
    base_model: Annotated[str, typer.Option(help="base model: smollm2-135m-instruct, or tiny for quick trials")] = BASE_MODEL,
    gateway_port: Annotated[int | None, typer.Option(help="port of the gateway; 8700 or any free one by default")] = None,
    fault_hooks: Annotated[bool, typer.Option(help="let tests make the engine fail on purpose")] = False,
) -> None:
    """Run the whole system on this machine, until `tuneloop down`."""
    home = Home.find()
    ports = {} if gateway_port is None else {"gateway": gateway_port}
    request = Request(Options(base_model=base_model, fault_hooks=fault_hooks), ports)
    with _STDERR.status("starting") as live:
        control.up(home, request, say=lambda text: live.update(text or "starting"))
    stack = home.read_stack() or {}
    _STDERR.print(f"[green]ready[/]  logs in {home.logs}")
    _STDERR.print(_table(home, stack))
    _STDERR.print("Next: `tuneloop apply examples/pipeline.yaml`, then `tuneloop publish FILE --pipeline NAME`.")


def down() -> None:
    """End the local stack and every process that it started. Its data stays."""
    home = Home.find()
    with _STDERR.status("stopping"):
        ran = control.down(home)
    _STDERR.print("stopped" if ran else f"nothing runs in {home.root}")


def status(output: OutputOption = OutputFormat.TABLE) -> None:
    """What runs, where it listens, and whether it answers. Exit code 1 unless all of it is well."""
    home = Home.find()
    stack = home.read_stack()
    if stack is None or not control.is_up(home):
        raise TuneloopError(f"no stack runs in {home.root}; start one with `tuneloop up`")
    if output is OutputFormat.TABLE:
        Console().print(_table(home, stack))
    else:
        emit({"phase": stack["phase"], "items": _rows(home, stack)}, output)
    if stack["phase"] != "ready" or any(row["state"] != "up" for row in _rows(home, stack)):
        raise typer.Exit(1)


def _rows(home: Home, stack: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "state": _state(home, name, item),
            "url": item["url"],
            "pid": item["pid"],
            "restarts": item["restarts"],
            "rss_mib": round(resident_mib(item["pid"]) or 0.0),
            "log": item["log"],
        }
        for name, item in stack["services"].items()
    ]


def _state(home: Home, name: str, item: dict[str, Any]) -> str:
    if not alive(item["pid"], home.stack_id):
        return "restarting"
    if name == "kafka":
        return "up" if probes.answers(f"tcp://{item['url']}") else "not answering"
    path = {"s3": "/healthz", "prometheus": "/-/ready"}.get(name, "/readyz")
    return "up" if probes.answers(item["url"] + path) else "not ready"


def _table(home: Home, stack: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("component", "state", "url", "pid", "restarts", "MiB"):
        table.add_column(column, justify="right" if column in {"pid", "restarts", "MiB"} else "left")
    for row in _rows(home, stack):
        colour = "green" if row["state"] == "up" else "red"
        table.add_row(row["name"], f"[{colour}]{row['state']}[/]", row["url"], str(row["pid"]),
                      str(row["restarts"]), str(row["rss_mib"]))
    return table
