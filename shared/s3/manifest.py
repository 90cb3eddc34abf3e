"""The list of an artifact's files, by which it is named and checked. Pure but for reading local folders."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.errors import IntegrityError, InvalidInputError
from shared.events import Digest

MANIFEST_NAME = "manifest.json"


class FileEntry(BaseModel):
    """One file of an artifact: where it is inside, how long it is, and its digest."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int = Field(ge=0)
    sha256: Digest

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        # A manifest comes from the network and its paths become local files: nothing may leave the target folder.
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or "\\" in path or "\0" in path or path != "/".join(parts):
            raise ValueError(f"{path!r} is not a plain relative path")
        if ".." in parts or "." in path.split("/"):
            raise ValueError(f"{path!r} leads out of the artifact")
        if path == MANIFEST_NAME:
            raise ValueError(f"{MANIFEST_NAME} cannot list itself")
        return path


class Manifest(BaseModel):
    """What an artifact consists of.

    Attributes:
        kind: what it is, for example ``adapters``.
        digest: sha256 over the canonical list of files; the artifact's identity.
        files: sorted by path.
        meta: facts about how it came to be; not part of the identity.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    digest: Digest
    files: list[FileEntry] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _digest_fits(self) -> "Manifest":
        paths = [entry.path for entry in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("the files must be sorted by path, each once")
        if (found := digest_of(self.files)) != self.digest:
            raise ValueError(f"the list of files has digest {found}, but the manifest says {self.digest}")
        return self

    def encode(self) -> bytes:
        """The manifest as it is stored."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def decode_manifest(data: bytes, *, source: str) -> Manifest:
    """The manifest in `data`.

    Raises:
        IntegrityError: naming `source` and every field that is wrong.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'manifest'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise IntegrityError(f"{source}: not a valid manifest: {problems}") from error


def digest_of(files: Sequence[FileEntry]) -> str:
    """sha256 over the canonical JSON of ``[path, size, sha256]`` of every file, sorted by path."""
    canonical = sorted([entry.path, entry.size, entry.sha256] for entry in files)
    text = json.dumps(canonical, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, as ``sha256:<hex>``, read in bounded memory."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def build_manifest(kind: str, folder: Path, meta: dict[str, Any] | None = None) -> Manifest:
    """The manifest of a local folder; a ``manifest.json`` at its top is left out.

    Raises:
        InvalidInputError: the folder is not there or holds no file.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is not a folder, so it cannot become an artifact")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [
        FileEntry(path=name, size=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
        for name in names if name != MANIFEST_NAME
    ]
    if not files:
        raise InvalidInputError(f"{folder} holds no file, so it cannot become an artifact")
    return Manifest(kind=kind, digest=digest_of(files), files=files, meta=meta or {})


def verify_dir(folder: Path, manifest: Manifest) -> None:
    """Check that every file of `manifest` is in `folder` with its size and digest.

    Raises:
        IntegrityError: naming the first file that is not as promised, with what was expected and found.
    """
    for entry in manifest.files:
        verify_file(folder / entry.path, entry, source=str(folder))


def verify_file(path: Path, entry: FileEntry, *, source: str) -> None:
    """Check one local file against its entry; see `verify_dir`."""
    if not path.is_file():
        raise IntegrityError(f"{source}: {entry.path} is missing")
    if (size := path.stat().st_size) != entry.size:
        raise IntegrityError(f"{source}: {entry.path} has {size} bytes, but the manifest says {entry.size}")
    if (found := sha256_of(path)) != entry.sha256:
        raise IntegrityError(f"{source}: {entry.path} has digest {found}, but the manifest says {entry.sha256}")
