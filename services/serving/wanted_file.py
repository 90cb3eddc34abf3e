"""What one model server shall have, as a small file that the agent writes and vLLM's plugin reads.

The plugin runs inside vLLM and must know, without asking anybody, whether a name is wanted and from which weights:
what is not in this file does not exist for it, so that an unload sticks.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.serving.decide import Wanted
from shared.errors import TemporaryError
from shared.events import Digest, Name
from shared.served_names import SERVED_NAME


class WantedAdapter(BaseModel):
    """An adapter, as `services.serving.decide.Wanted` has it."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=SERVED_NAME)
    uri: str
    digest: Digest
    root: str


class WantedFile(BaseModel):
    """The file's content.

    Attributes:
        base_digest: digest of the base model that is served; "" while it is not known, and then nothing can be checked.
        max_rank: largest LoRA rank that the server was started for.
    """

    model_config = ConfigDict(frozen=True)

    base_model: Name
    base_digest: str
    max_rank: int
    adapters: dict[str, WantedAdapter]


def wanted_file(
    wanted: Mapping[str, Wanted], *, base_model: str, base_digest: str, max_rank: int
) -> WantedFile:
    """The file's content for these adapters; names that no model version has are left out."""
    adapters = {
        name: WantedAdapter(name=name, uri=item.uri, digest=item.digest, root=item.root)
        for name, item in sorted(wanted.items()) if re.fullmatch(SERVED_NAME, name)
    }
    return WantedFile(base_model=base_model, base_digest=base_digest, max_rank=max_rank, adapters=adapters)


def write_wanted(path: Path, content: WantedFile) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content.model_dump_json(indent=2) + "\n")
    temporary.replace(path)


def read_wanted(path: Path) -> WantedFile:
    """The file's content.

    Raises:
        TemporaryError: it is not there yet, or is not what an agent writes.
    """
    try:
        return WantedFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TemporaryError(f"{path} cannot be read, so no adapter is wanted: {error.strerror}") from error
    except ValidationError as error:
        raise TemporaryError(f"{path} was not written by an adapter agent: {error}") from error
