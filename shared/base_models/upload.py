"""Puts a base model into S3: ``python -m shared.base_models.upload NAME [FOLDER]``.

Without a folder, one of the models that `shared.base_models` can make itself. S3 is where the TUNELOOP_S3_ variables
say; the bucket is made where it does not exist.
"""

import sys
import tempfile
from pathlib import Path

from shared.base_models import BUILDERS
from shared.errors import InvalidInputError, TuneloopError
from shared.s3 import ArtifactStore, connect_store
from shared.settings import S3Settings


def upload(store: ArtifactStore, name: str, folder: Path | None) -> bool:
    """Store a Hugging Face folder as ``base-models/<name>/``; False if there is one already.

    Raises:
        InvalidInputError: the folder is none, or there is no folder and no way to make the model.
    """
    store.ensure_bucket()
    if store.manifest(f"s3://{store.bucket}/base-models/{name}/") is not None:
        return False
    with tempfile.TemporaryDirectory(prefix="tuneloop-base-model-") as temporary:
        if folder is None:
            folder = Path(temporary) / name
            _make(name, folder)
        if not (folder / "config.json").is_file():
            raise InvalidInputError(f"{folder} has no config.json; give the folder of a Hugging Face model")
        store.put_dir_at(f"base-models/{name}/", folder, kind="base-model", meta={"base_model": name})
    return True


def _make(name: str, folder: Path) -> None:
    if name not in BUILDERS:
        raise InvalidInputError(f"give the folder of {name}: only {', '.join(BUILDERS)} can be made here")
    BUILDERS[name](folder)


def main(arguments: list[str]) -> int:
    """The exit code: 2 for a wrong call, 1 where it did not work; stderr says why."""
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m shared.base_models.upload NAME [FOLDER]\n")
        return 2
    name, *rest = arguments
    try:
        with connect_store(S3Settings()) as store:
            new = upload(store, name, Path(rest[0]) if rest else None)
    except TuneloopError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{name}: {'stored' if new else 'is there already'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
