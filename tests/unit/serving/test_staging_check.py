"""The base that an adapter was trained on must be the base that is served."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.serving.adapter_files import InvalidAdapterError
from services.serving.decide import Wanted
from services.serving.staging import check
from shared.s3 import Manifest, build_manifest
from tests.support.adapters import CONFIG, write_tensors

DIGEST = "sha256:" + "1" * 64
META = {"base_model": "tiny", "base_model_digest": DIGEST, "rank": 4}
STEM = "base_model.model.model.layers.0.self_attn.q_proj"


def staged(folder: Path, meta: dict[str, Any]) -> tuple[Wanted, Manifest]:
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    shapes = {f"{STEM}.lora_A.weight": (4, 8), f"{STEM}.lora_B.weight": (8, 4)}
    write_tensors(folder / "adapter_model.safetensors", shapes)
    manifest = build_manifest("adapters", folder, meta)
    return Wanted("a@1", "s3://b/adapters/x/", manifest.digest, str(folder), "loop", "cause"), manifest


def test_the_right_base_passes(tmp_path: Path) -> None:
    wanted, manifest = staged(tmp_path, META)
    check(wanted, manifest, base_model="tiny", base_digest=DIGEST, max_rank=8)


@pytest.mark.parametrize("change", [
    {"base_model_digest": "sha256:" + "2" * 64}, {"base_model": "other"}, {"base_model_digest": None},
])
def test_another_base_of_the_same_shapes_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    wanted, manifest = staged(tmp_path, {**META, **change})
    with pytest.raises(InvalidAdapterError, match="made for another base model"):
        check(wanted, manifest, base_model="tiny", base_digest=DIGEST, max_rank=8)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    wanted, manifest = staged(tmp_path, META)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidAdapterError, match=r"adapter_model\.safetensors is missing"):
        check(wanted, manifest, base_model="tiny", base_digest=DIGEST, max_rank=8)
