"""`tuneloop up`, `status` and `down`."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from services.cli.errors import CliError
from services.cli.local import control, probes
from services.cli.local.home import Home
from services.cli.local.plan import Options
from services.cli.local.processes import alive, resident_mib
from services.cli.local.supervisor import Request
from services.cli.output import OutputFormat, OutputOption, emit, err, rows
from shared.errors import TuneloopError

BASE_MODEL = "smollm2-135m-instruct"


class Engine(StrEnum):
    """What `planning.Options.engine` may be, in typer's form."""

    SMALL = "small"
    VLLM = "vllm"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(up)
    app.command()(status)
    app.command()(down)


def up(
    base_model: Annotated[str, typer.Option(help="smollm2-135m-instruct, or tiny for quick trials.")] = BASE_MODEL,
    engine: Annotated[Engine, typer.Option(help="The model server: the small one, or vllm.")] = Engine.SMALL,
    gateway_port: Annotated[int | None, typer.Option(help="The gateway's port; by default 8700 or a free one.")] = None,
    fault_hooks: Annotated[bool, typer.Option(help="Let tests make the engine fail on purpose.")] = False,
) -> None:
    """Run the whole system on this machine, until `tuneloop down`."""
    home = Home.find()
    ports = {} if gateway_port is None else {"gateway": gateway_port}
    request = Request(Options(base_model=base_model, engine=engine.value, fault_hooks=fault_hooks), ports)
    with err().status("starting") as live:
        control.up(home, request, say=lambda text: live.update(text or "starting"))
    stack = home.read_stack() or {}
    err().print(f"[green]ready[/]  logs in {home.logs}")
    err().print(_table(_rows(home, stack)))
    err().print("Next: `tuneloop apply examples/pipeline.yaml`, then `tuneloop publish FILE --pipeline NAME`.")


def down() -> None:
    """End the local stack and every process that it started. Its data stays."""
    home = Home.find()
    with err().status("stopping"):
        ran = control.down(home)
    err().print("stopped" if ran else f"nothing runs in {home.root}")


def status(output: OutputOption = OutputFormat.TABLE) -> None:
    """What runs, where it listens, and whether it answers. Exit code 1 unless all of it is well."""
    home = Home.find()
    stack = home.read_stack()
    if stack is None or not control.is_up(home):
        raise TuneloopError(f"no stack runs in {home.root}; start one with `tuneloop up`")
    components = _rows(home, stack)
    emit({"phase": stack["phase"], "items": components}, output, lambda _: _table(components))
    unwell = [row["name"] for row in components if row["state"] != "up"]
    if stack["phase"] != "ready" or unwell:
        raise CliError(f"the stack is {stack['phase']}; not well: {', '.join(unwell) or 'nothing'}")


def _rows(home: Home, stack: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "state": _state(home, item),
            "url": item["url"],
            "pid": item["pid"],
            "restarts": item["restarts"],
            "rss_mib": round(resident_mib(item["pid"]) or 0.0),
            "log": item["log"],
        }
        for name, item in stack["services"].items()
    ]


def _state(home: Home, item: dict[str, Any]) -> str:
    if not alive(item["pid"], home.stack_id):
        return "restarting"
    return "up" if probes.answers(item["probe"]) else "not ready"


def _table(components: list[dict[str, Any]]) -> RenderableType:
    return rows(components, {
        "COMPONENT": lambda i: i["name"],
        "STATE": lambda i: Text(i["state"], style="green" if i["state"] == "up" else "red"),
        "URL": lambda i: i["url"],
        "PID": lambda i: str(i["pid"]),
        "RESTARTS": lambda i: str(i["restarts"]),
        "MIB": lambda i: str(i["rss_mib"]),
    }, empty="nothing has been started yet")
