"""Jobs on real S3: what they need there, how to run one by hand, and how to end those that a service launched."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.trainer.files import JobInput, checkpoints_of, prefix_of
from shared.events import ArtifactRef, DatasetRef
from shared.launchers import JobSpec, LauncherSettings, launcher_from
from shared.launchers.kubernetes.manifest import command
from shared.recipe import TrainingRecipe
from shared.s3 import ArtifactStore
from shared.settings import S3Settings
from tests.support.wait import eventually

Row = Mapping[str, Any]
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_NAMES = [("id", pa.string()), ("group", pa.string())]
_CONTENT = {
    "messages": _MESSAGES, "rejected": pa.string(), "desired": pa.bool_(), "text": pa.string(), "task": pa.string(),
}


def put_dataset(
    store: ArtifactStore, folder: Path, *, train: Sequence[Row], validation: Sequence[Row], test: Sequence[Row] = ()
) -> DatasetRef:
    """A prepared dataset version, as data_ingest writes it; its columns are what the rows have."""
    splits = {"train": train, "validation": validation, "test": test}
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        columns = {
            "id": [f"{name}-{index}" for index in range(len(rows))],
            "group": [f"{name}-{index}" for index in range(len(rows))],
        }
        content = {key: [row[key] for row in rows] for key in _CONTENT if key in train[0]}
        schema = pa.schema([*_NAMES, *((key, _CONTENT[key]) for key in content)])
        pq.write_table(pa.table(columns | content, schema=schema), folder / f"{name}.parquet")
    artifact = store.put_dir("datasets", folder)
    counts: Any = {name: len(rows) for name, rows in splits.items()}
    return DatasetRef(dataset_id=f"data-{artifact.digest[7:15]}", artifact=artifact, rows=counts)


def put_base_model(store: ArtifactStore, folder: Path, name: str = "tiny") -> ArtifactRef:
    """The base model where jobs look for it."""
    return store.put_dir_at(f"base-models/{name}/", folder, kind="base-model", meta={"base_model": name})


def write_job(
    store: ArtifactStore, dataset: DatasetRef, recipe: TrainingRecipe, *, run: str, attempt: int = 1,
    base_model: str = "tiny",
) -> JobInput:
    """An attempt's ``job.json``, as the service writes it."""
    job = JobInput(
        run_id=run, pipeline="intents", attempt=attempt, prefix=prefix_of(run, attempt), dataset=dataset,
        base_model=base_model, recipe=recipe, resume_from=checkpoints_of(run, attempt),
    )
    store.put_bytes(f"{job.prefix}job.json", job.model_dump_json(by_alias=True).encode())
    return job


def job_environment(settings: S3Settings, cache: Path) -> dict[str, str]:
    """The environment of a job's process."""
    return os.environ | {
        "TUNELOOP_S3_ENDPOINT": settings.s3_endpoint,
        "TUNELOOP_S3_BUCKET": settings.s3_bucket,
        "TUNELOOP_S3_ACCESS_KEY": settings.s3_access_key,
        "TUNELOOP_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "TUNELOOP_CACHE_DIR": str(cache),
    }


def start_job(
    settings: S3Settings, job: JobInput, cache: Path, log: Path, *, processes: int = 1
) -> subprocess.Popen[bytes]:
    """The job as a launcher starts it, for more than one process by torchrun; all streams go to `log`."""
    program = [sys.executable, "-m", "services.trainer.job"]
    if processes > 1:
        spec = JobSpec(name="job", module="services.trainer.job", gpu=processes)
        program = [sys.executable, "-m", "torch.distributed.run", *command(spec)[1:]]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [*program, f"s3://{settings.s3_bucket}/{job.prefix}job.json"],
            env=job_environment(settings, cache), stdout=stream, stderr=stream,
        )


def end_jobs(settings: LauncherSettings) -> None:
    """Cancel every job below the launcher's folder, and see each end."""
    launcher = launcher_from(settings)
    names = [path.name for path in settings.launcher_dir.glob("*")]
    for name in names:
        launcher.cancel(name)
    eventually(lambda: all(launcher.observe(name).state != "running" for name in names), what=f"{names} end")
