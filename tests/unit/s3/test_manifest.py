"""Manifests: identity, canonical form, and what must never be accepted from the network."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import IntegrityError, InvalidInputError
from shared.s3 import FileEntry, build_manifest, verify_dir
from shared.s3.manifest import decode_manifest, digest_of

ZERO = "sha256:" + "0" * 64


def folder_with(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
        (path / name.replace("__", "/")).write_text(text)
    return path


def test_manifest_survives_its_own_encoding(tmp_path: Path) -> None:
    manifest = build_manifest("adapters", folder_with(tmp_path / "a", b="2", sub__c="3"), {"run": "r1"})
    assert decode_manifest(manifest.encode(), source="here") == manifest
    assert [entry.path for entry in manifest.files] == ["b", "sub/c"]


def test_digest_is_of_the_files_alone(tmp_path: Path) -> None:
    one = build_manifest("adapters", folder_with(tmp_path / "a", x="1", y="2"), {"made": "monday"})
    two = build_manifest("other", folder_with(tmp_path / "b", y="2", x="1"))
    three = build_manifest("adapters", folder_with(tmp_path / "c", x="1", y="3"))
    assert one.digest == two.digest
    assert one.digest != three.digest


def test_manifest_file_in_the_folder_is_not_part_of_it(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a", x="1")
    before = build_manifest("k", folder).digest
    (folder / "manifest.json").write_text("{}")
    assert build_manifest("k", folder).digest == before


def test_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no file"):
        build_manifest("k", folder_with(tmp_path / "empty"))
    with pytest.raises(InvalidInputError, match="is not a folder"):
        build_manifest("k", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "path",
    ["../evil", "a/../../evil", "/etc/passwd", "a//b", "a/./b", "./a", "..", ".", "", "a\\..\\b", "a\0b", "a/",
     "manifest.json"],
)
def test_paths_that_leave_the_artifact_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"path"):
        FileEntry(path=path, size=1, sha256=ZERO)
    entry = FileEntry.model_construct(path=path, size=1, sha256=ZERO)
    data = {"kind": "k", "digest": digest_of([entry]), "files": [{"path": path, "size": 1, "sha256": ZERO}]}
    with pytest.raises(IntegrityError, match=r"s3://b/x: not a valid manifest: files\.0\.path"):
        decode_manifest(json.dumps(data).encode(), source="s3://b/x")


@given(st.text(max_size=30))
def test_whatever_path_is_accepted_stays_inside(path: str) -> None:
    try:
        entry = FileEntry(path=path, size=0, sha256=ZERO)
    except ValueError:
        return
    root = Path("/root/target")
    assert root in (root / entry.path).parents


def test_manifest_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    manifest = build_manifest("k", folder_with(tmp_path / "a", x="1", y="2"))
    data = json.loads(manifest.encode())
    data["files"][0]["size"] += 1
    with pytest.raises(IntegrityError, match="the list of files has digest"):
        decode_manifest(json.dumps(data).encode(), source="here")
    data = json.loads(manifest.encode())
    data["files"].reverse()
    with pytest.raises(IntegrityError, match="sorted"):
        decode_manifest(json.dumps(data).encode(), source="here")


@pytest.mark.parametrize("data", [b"", b"not json", b"[]", b"\xff\xfe", b'{"kind": "k"}'])
def test_something_else_than_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="here: not a valid manifest"):
        decode_manifest(data, source="here")


def test_verify_names_the_file_and_both_values(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a", x="12", y="34")
    manifest = build_manifest("k", folder)
    verify_dir(folder, manifest)
    (folder / "y").write_text("35")
    with pytest.raises(IntegrityError, match=r"y has digest sha256:.*, but the manifest says sha256:"):
        verify_dir(folder, manifest)
    (folder / "y").write_text("345")
    with pytest.raises(IntegrityError, match="y has 3 bytes, but the manifest says 2"):
        verify_dir(folder, manifest)
    (folder / "y").unlink()
    with pytest.raises(IntegrityError, match="y is missing"):
        verify_dir(folder, manifest)
