"""What an adapter's folder holds, read without torch: the agent and the engine check the same things with it.

vLLM answers 200 to an adapter that was made for another base of the same shapes, and 500 to a truncated file, a rank
that is too large, DoRA or unsupported modules. So everything that can be known from the files is known before a load.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import PermanentError
from shared.recipe import ModelServer

CONFIG = "adapter_config.json"
WHOLE_MODEL = "config.json"
WEIGHTS = "adapter_model.safetensors"

# Formats that run code when they are read.
_UNSAFE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_MAX_HEADER_BYTES = 100_000_000
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class InvalidAdapterError(PermanentError):
    """The adapter cannot be served by anyone; the message names the file and what is wrong with it."""


# As PEFT calls it in its configuration; the last is our own (`shared.adapters.bottleneck`).
_OTHER_KINDS = frozenset({"IA3", "PREFIX_TUNING", "PROMPT_TUNING", "BOTTLENECK"})


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter that may be loaded.

    Attributes:
        kind: ``LORA``, ``DORA``, or another `peft_type`.
        rank: the largest rank of any of its matrices; 0 for kinds that have none.
        shapes: tensor name to shape, from the header of the weights.
    """

    path: Path
    rank: int
    shapes: Mapping[str, tuple[int, ...]]
    kind: str = "LORA"


def read_adapter(path: Path, *, max_rank: int, server: ModelServer = "vllm") -> AdapterFiles:
    """Check the folder at `path` and describe it.

    Args:
        server: who is to load it: vLLM serves plain LoRA alone, the small engine all kinds of adapters.

    Raises:
        FileNotFoundError: the folder or one of the two files is not there.
        InvalidAdapterError: it is there and must not be loaded.
    """
    if (path / WHOLE_MODEL).exists() and not (path / CONFIG).exists():
        raise InvalidAdapterError(
            "it is a whole model and no adapter (training.method: full, or training.merge): serve it as a base model "
            "of its own, docs/training.md says how"
        )
    config = _read_config(path / CONFIG)
    _refuse_unsafe_files(path)
    if config.get("task_type") == "SEQ_CLS":
        raise InvalidAdapterError(
            f"{CONFIG}: it is a reward model (training.objective: reward), which writes no answers"
        )
    kind = _kind(config, server)
    if kind in _OTHER_KINDS:
        return AdapterFiles(path, 0, _read_header(path / WEIGHTS), kind)
    _refuse_unsupported(config)
    rank = _rank(config)
    if rank > max_rank:
        raise InvalidAdapterError(f"{CONFIG}: rank {rank} is larger than the {max_rank} that this server allows")
    shapes = _read_header(path / WEIGHTS)
    if kind == "LORA":
        _check_tensors(shapes, rank)
    return AdapterFiles(path, rank, shapes, kind)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InvalidAdapterError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidAdapterError(f"{path.name} must hold a JSON object")
    return config


def _refuse_unsafe_files(path: Path) -> None:
    unsafe = sorted(item.name for item in path.iterdir() if item.suffix in _UNSAFE_SUFFIXES)
    if unsafe:
        raise InvalidAdapterError(f"weights must be safetensors, found {', '.join(unsafe)}")


def _kind(config: Mapping[str, Any], server: ModelServer) -> str:
    kind = "DORA" if config.get("peft_type") == "LORA" and config.get("use_dora") else str(config.get("peft_type"))
    if kind not in _OTHER_KINDS | {"LORA", "DORA"}:
        raise InvalidAdapterError(f"{CONFIG}: peft_type is {kind!r}, which no model server serves")
    if server == "vllm" and kind != "LORA":
        found = "use_dora is on: DoRA" if kind == "DORA" else f"peft_type is {kind!r}: it"
        remedy = ", set training.merge" if kind in ("DORA", "IA3") else ""
        raise InvalidAdapterError(
            f"{CONFIG}: {found} cannot be served by vLLM, only plain LORA; serve it with the small engine{remedy}, or "
            "train with lora"
        )
    return kind


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    if config.get("modules_to_save"):
        raise InvalidAdapterError(
            f"{CONFIG}: modules_to_save is {config['modules_to_save']}; only the LoRA matrices can be served"
        )
    if config.get("bias", "none") != "none":
        raise InvalidAdapterError(f"{CONFIG}: bias is {config['bias']!r}; only 'none' can be served")


def _rank(config: Mapping[str, Any]) -> int:
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [None])]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise InvalidAdapterError(f"{CONFIG}: r and rank_pattern must be positive integers, found {ranks}")
    return max(rank for rank in ranks if isinstance(rank, int))


def _read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of a safetensors file; also checks that its bytes are all there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise InvalidAdapterError(f"{path.name} is truncated: {size} bytes cannot hold its header")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in header.items()}
            ends = {name: _end(entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidAdapterError(f"{path.name} has a header that is not safetensors: {error!r}") from error
    if max(ends.values(), default=0) != size - 8 - length:
        raise InvalidAdapterError(
            f"{path.name} is truncated or padded: its tensors need {max(ends.values(), default=0)} bytes, "
            f"{size - 8 - length} are there"
        )
    return shapes


def _end(entry: Mapping[str, Any]) -> int:
    start, end = entry["data_offsets"]
    if end - start != math.prod(entry["shape"]) * _DTYPE_BYTES[entry["dtype"]]:
        raise ValueError(f"data_offsets {entry['data_offsets']} do not fit shape {entry['shape']} of {entry['dtype']}")
    return int(end)


def _check_tensors(shapes: Mapping[str, tuple[int, ...]], rank: int) -> None:
    if not shapes:
        raise InvalidAdapterError(f"{WEIGHTS} holds no tensors")
    for name, shape in shapes.items():
        stem, _, matrix = name.removesuffix(".weight").rpartition(".")
        if matrix not in {"lora_A", "lora_B"} or not name.endswith(".weight") or len(shape) != 2:
            raise InvalidAdapterError(f"{WEIGHTS}: {name} of shape {list(shape)} is not a LoRA matrix")
        partner = f"{stem}.{'lora_B' if matrix == 'lora_A' else 'lora_A'}.weight"
        inner = shape[0] if matrix == "lora_A" else shape[1]
        if partner not in shapes or inner > rank:
            raise InvalidAdapterError(
                f"{WEIGHTS}: {name} of shape {list(shape)} does not fit rank {rank} and its partner {partner}"
            )
