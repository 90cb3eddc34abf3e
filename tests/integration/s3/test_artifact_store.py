"""The artifact store against a real SeaweedFS."""

import itertools
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import ConflictError, IntegrityError, InvalidInputError, NotFoundError, TemporaryError
from shared.events import ArtifactRef
from shared.s3 import ArtifactStore, connect_store, sha256_of
from shared.s3.client import PART_BYTES
from shared.settings import S3Settings

pytestmark = pytest.mark.integration
_NUMBERS = itertools.count()


@pytest.fixture
def store(s3_settings: S3Settings) -> Iterator[ArtifactStore]:
    with connect_store(s3_settings) as store:
        yield store


@pytest.fixture
def prefix() -> str:
    return f"test-{os.getpid()}-{next(_NUMBERS)}/"


@pytest.fixture
def stored(store: ArtifactStore, folder: Path, prefix: str) -> ArtifactRef:
    return store.put_dir_at(prefix, folder, kind="k")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "weights.bin").write_bytes(os.urandom(1000))
    (source / "sub" / "config.json").write_text("{}")
    return source


def test_folder_comes_back_as_it_went(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    ref = store.put_dir("adapters", folder, meta={"run": "r1"})
    assert ref.uri == f"s3://{store.bucket}/adapters/{ref.digest.removeprefix('sha256:')}/"
    manifest = store.get_dir(ref, tmp_path / "target")
    assert manifest.meta == {"run": "r1"}
    assert (tmp_path / "target/weights.bin").read_bytes() == (folder / "weights.bin").read_bytes()
    assert (tmp_path / "target/sub/config.json").read_text() == "{}"
    assert json.loads((tmp_path / "target/manifest.json").read_text())["digest"] == ref.digest
    assert store.exists(ref.uri)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_same_folder_again_is_the_same_artifact(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    first = store.put_dir("adapters", folder, meta={"by": "one"})
    assert store.put_dir("adapters", folder, meta={"by": "two"}) == first
    assert store.get_dir(first, tmp_path / "t").meta == {"by": "one"}
    assert store.get_dir(first, tmp_path / "t").digest == first.digest, "a whole local copy is kept"


def test_artifacts_at_a_prefix_never_change(store: ArtifactStore, folder: Path, prefix: str, tmp_path: Path) -> None:
    ref = store.put_dir_at(prefix + "base", folder, kind="base-model")
    assert ref.uri == f"s3://{store.bucket}/{prefix}base/"
    assert store.put_dir_at(prefix + "base/", folder, kind="base-model") == ref
    (folder / "weights.bin").write_bytes(b"other")
    with pytest.raises(ConflictError, match="choose another prefix"):
        store.put_dir_at(prefix + "base", folder, kind="base-model")
    assert store.get_dir(ref.uri, tmp_path / "t").digest == ref.digest
    key = ref.uri.removeprefix(f"s3://{store.bucket}/")
    assert store.get_dir(key, tmp_path / "by-key").digest == ref.digest


def test_large_file_in_parts(store: ArtifactStore, tmp_path: Path, prefix: str) -> None:
    source = tmp_path / "big"
    source.mkdir()
    (source / "weights.bin").write_bytes(os.urandom(1024) * 40 * 1024)
    ref = store.put_dir_at(prefix, source, kind="big")
    store.get_dir(ref, tmp_path / "t")
    assert sha256_of(tmp_path / "t/weights.bin") == sha256_of(source / "weights.bin")


def test_no_manifest_means_not_there(store: ArtifactStore, prefix: str, tmp_path: Path) -> None:
    store.put_bytes(prefix + "half/weights.bin", b"1")
    assert store.manifest(f"s3://{store.bucket}/{prefix}half/") is None
    assert not store.exists(f"s3://{store.bucket}/{prefix}half/")
    with pytest.raises(NotFoundError, match=r"half/: no whole artifact is there"):
        store.get_dir(f"s3://{store.bucket}/{prefix}half/", tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"longer than before" * 100, "weights.bin has 1800 bytes, but the manifest says 1000"),
     (b"x" * 1000, r"weights.bin has digest sha256:\w+, but the manifest says sha256:")],
)
def test_wrong_bytes_are_found_and_nothing_stays(
    store: ArtifactStore, stored: ArtifactRef, tmp_path: Path, data: bytes, message: str
) -> None:
    store.put_bytes(stored.uri + "weights.bin", data)
    with pytest.raises(IntegrityError, match=message):
        store.get_dir(stored, tmp_path / "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_missing_file_is_named(store: ArtifactStore, stored: ArtifactRef, tmp_path: Path) -> None:
    bucket, key = store._split(stored.uri + "weights.bin")
    store._client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(NotFoundError, match=r"weights\.bin: there is no such object"):
        store.get_dir(stored, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_other_digest_than_promised(store: ArtifactStore, stored: ArtifactRef, tmp_path: Path) -> None:
    wrong = ArtifactRef(uri=stored.uri, digest="sha256:" + "1" * 64)
    with pytest.raises(IntegrityError, match=f"expected digest {wrong.digest}, but its manifest says {stored.digest}"):
        store.get_dir(wrong, tmp_path / "t")


def test_path_traversal_in_a_manifest_is_refused(
    store: ArtifactStore, stored: ArtifactRef, tmp_path: Path
) -> None:
    evil = json.loads(store.get_bytes(stored.uri + "manifest.json"))
    evil["files"][0]["path"] = "../../evil"
    store.put_bytes(stored.uri + "manifest.json", json.dumps(evil).encode())
    with pytest.raises(IntegrityError, match="leads out of the artifact"):
        store.get_dir(stored.uri, tmp_path / "t")


def test_target_with_something_else_is_kept(store: ArtifactStore, stored: ArtifactRef, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/mine.txt").write_text("mine")
    with pytest.raises(ConflictError, match="remove it"):
        store.get_dir(stored, tmp_path / "t")
    assert (tmp_path / "t/mine.txt").read_text() == "mine"


@pytest.mark.parametrize("size", [0, 10, PART_BYTES, 2 * PART_BYTES + 17])
def test_stream_of_any_length(store: ArtifactStore, prefix: str, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    chunks = (data[at:at + 65_000] for at in range(0, size, 65_000))
    uri, digest, length = store.put_stream(prefix + "raw", chunks, max_bytes=size)
    assert length == size
    store.download(uri, tmp_path / "raw", sha256=digest)
    assert (tmp_path / "raw").read_bytes() == data


def test_stream_takes_bounded_memory(store: ArtifactStore, prefix: str) -> None:
    chunk = os.urandom(65_536)
    tracemalloc.start()
    _, _, size = store.put_stream(prefix + "raw", (chunk for _ in range(1600)), max_bytes=200_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 1600 * 65_536
    assert peak < 4 * PART_BYTES


def test_broken_or_too_long_stream_leaves_nothing(store: ArtifactStore, prefix: str) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"x" * (PART_BYTES + 1)
        raise ConnectionResetError("client went away")

    with pytest.raises(ConnectionResetError):
        store.put_stream(prefix + "a", breaks(), max_bytes=10 * PART_BYTES)
    with pytest.raises(InvalidInputError, match=f"longer than the allowed {PART_BYTES + 1} bytes"):
        store.put_stream(prefix + "b", iter([b"x" * PART_BYTES] * 2), max_bytes=PART_BYTES + 1)
    assert not store.exists(prefix + "a")
    assert not store.exists(prefix + "b")
    uploads = store._client.list_multipart_uploads(Bucket=store.bucket, Prefix=prefix)
    assert uploads.get("Uploads", []) == []


def test_download_checks_the_digest(store: ArtifactStore, prefix: str, tmp_path: Path) -> None:
    uri = store.put_bytes(prefix + "x", b"data")
    with pytest.raises(IntegrityError, match=f"{uri}: expected digest sha256:0"):
        store.download(uri, tmp_path / "x", sha256="sha256:" + "0" * 64)
    with pytest.raises(NotFoundError, match="nowhere: there is no such object"):
        store.download(prefix + "nowhere", tmp_path / "y", sha256=None)
    assert list(tmp_path.iterdir()) == []


def test_small_objects(store: ArtifactStore, prefix: str) -> None:
    uri = store.put_bytes(prefix + "r.json", b"1", if_absent=True)
    assert store.put_bytes(prefix + "r.json", b"1", if_absent=True) == uri
    with pytest.raises(ConflictError, match="exists already"):
        store.put_bytes(prefix + "r.json", b"2", if_absent=True)
    assert store.get_bytes(uri) == b"1"
    store.put_bytes(prefix + "r.json", b"3")
    assert store.get_bytes(prefix + "r.json") == b"3"
    assert store.size(uri) == 1
    assert store.exists(uri)
    assert not store.exists(prefix + "none")
    with pytest.raises(NotFoundError, match="none: there is no such object"):
        store.get_bytes(prefix + "none")


def test_folders_below_a_prefix(store: ArtifactStore, prefix: str) -> None:
    for name in ("step-000010/a", "step-000020/b/c", "file"):
        store.put_bytes(prefix + name, b"")
    root = f"s3://{store.bucket}/{prefix}"
    assert store.list_prefixes(prefix) == [root + "step-000010/", root + "step-000020/"]
    assert store.list_prefixes(root + "nothing/") == []


def test_bucket(store: ArtifactStore, s3_settings: S3Settings) -> None:
    store.ensure_bucket()
    store.ping()
    other = connect_store(s3_settings.model_copy(update={"s3_bucket": "not-there-yet"}))
    with pytest.raises(TemporaryError, match="bucket s3://not-there-yet does not exist"):
        other.ping()
    other.ensure_bucket()
    other.ping()
    other.close()


def test_nobody_there_is_temporary_and_names_the_place() -> None:
    store = connect_store(S3Settings(s3_endpoint="http://127.0.0.1:9", s3_access_key="a", s3_secret_key=SecretStr("b")))
    with pytest.raises(TemporaryError, match=r"S3 at http://127\.0\.0\.1:9 did not answer"):
        store.get_bytes("x")
    store.close()


def test_wrong_password_is_temporary_and_says_what_to_check(s3_settings: S3Settings) -> None:
    store = connect_store(s3_settings.model_copy(update={"s3_access_key": "nobody"}))
    with pytest.raises(TemporaryError, match="check TUNELOOP_S3_ACCESS_KEY"):
        store.get_bytes("x")
    store.close()


def test_half_of_the_credentials_is_refused_at_once() -> None:
    with pytest.raises(InvalidInputError, match="TUNELOOP_S3_SECRET_KEY is missing"):
        connect_store(S3Settings(s3_access_key="a"))
