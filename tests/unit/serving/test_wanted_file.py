"""The file of wanted adapters: written whole, read strictly."""

from pathlib import Path

import pytest

from services.serving.decide import Wanted
from services.serving.wanted_file import read_wanted, wanted_file, write_wanted
from shared.errors import TemporaryError

DIGEST = "sha256:" + "a" * 64


def wanted(name: str) -> Wanted:
    return Wanted(name, "s3://b/adapters/x/", DIGEST, f"/cache/{name}", "loop", "cause")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = wanted_file({"a@1": wanted("a@1")}, base_model="tiny", base_digest=DIGEST, max_rank=8)
    path = tmp_path / "not-made-yet" / "r0.wanted.json"
    write_wanted(path, content)
    assert read_wanted(path) == content
    assert list(path.parent.iterdir()) == [path]
    adapter = content.adapters["a@1"]
    assert (adapter.uri, adapter.digest, adapter.root) == ("s3://b/adapters/x/", DIGEST, "/cache/a@1")


def test_only_model_versions_are_in_it() -> None:
    names = ["a@1", "a@0", "a", "../a@1", "A@1", "a@1\n", "a@1 "]
    content = wanted_file({name: wanted(name) for name in names}, base_model="tiny", base_digest="", max_rank=8)
    assert list(content.adapters) == ["a@1"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"base_model": "tiny"}'])
def test_a_file_that_is_not_there_or_not_ours_is_a_temporary_error_that_names_it(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "wanted.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TemporaryError, match=r"wanted\.json"):
        read_wanted(path)
