"""`tuneloop publish`: give a pipeline new rows, and watch what comes of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from services.cli import follow
from services.cli.client import Json, Service
from services.cli.endpoints import DataIngestUrl, RegistryUrl, resolve
from services.cli.errors import CliError, ExitCode
from services.cli.output import OutputFormat, OutputOption, emit, err, pairs
from services.cli.watch import watch
from services.cli.words import size

CHUNK = 256 * 1024


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(publish)


def publish(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Rows, one JSON a line.")],
    *,
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="The pipeline that shall learn from them.")],
    name: Annotated[str | None, typer.Option(help="A name for people; by default the file's.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="How the rows are written; by default the file's suffix.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Stay until it is in production, or is not.")] = False,
    output: OutputOption = OutputFormat.TABLE,
    data_ingest_url: DataIngestUrl = None,
    registry_url: RegistryUrl = None,
) -> None:
    """Publish a dataset. What follows happens by itself; with --wait it is shown.

    With --wait the exit code is 0 if the adapter came into production, and 5 if the dataset was rejected, the run
    failed, a gate was not passed, or the rollout was rolled back.
    """
    if wait:
        resolve("registry", registry_url)  # Say now, and not after the upload, that nobody can be asked.
    with Service("data_ingest", data_ingest_url) as ingest:
        answer = _upload(ingest, file, pipeline=pipeline, name=name or file.name,
                         format=format_ or file.suffix.removeprefix(".").lower() or "jsonl")
    if not wait:
        emit(answer, output, lambda item: pairs({
            "dataset": item["dataset_id"], "uri": item["uri"], "sha256": item["sha256"], "size": size(item["bytes"]),
            "next": f"tuneloop datasets get {item['dataset_id']}",
        }))
        return
    with Service("registry", registry_url) as registry:
        _wait(registry, answer["dataset_id"], output)


def _wait(registry: Service, dataset_id: str, output: OutputFormat) -> None:
    err().print(f"dataset {dataset_id}")

    def fetch() -> Json:
        loop = follow.observe(registry, dataset_id)
        verdict = follow.judge(loop)
        return {**follow.to_json(loop), "ended": verdict.ended, "well": verdict.well, "now": verdict.message}

    end = watch(fetch, view=follow.view, line=lambda item: str(item["now"]), done=lambda item: bool(item["ended"]))
    emit(end, output, follow.view)
    if not end["well"]:
        raise CliError(end["now"], ExitCode.ENDED_BADLY)


def _upload(ingest: Service, file: Path, **params: str) -> Json:
    total = file.stat().st_size
    with file.open("rb") as stream, _chunks(stream, total) as chunks:
        headers = {"content-type": "application/octet-stream", "content-length": str(total)}
        return ingest.send("datasets", content=chunks, headers=headers, **params)


@contextmanager
def _chunks(stream: BinaryIO, total: int) -> Iterator[Iterator[bytes]]:
    """The file in pieces, with a bar on stderr where that is a terminal."""
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as progress:
        task = progress.add_task("upload", total=total)

        def read() -> Iterator[bytes]:
            while chunk := stream.read(CHUNK):
                progress.advance(task, len(chunk))
                yield chunk

        yield read()
