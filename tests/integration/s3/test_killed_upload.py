"""A process that is killed while it stores a folder leaves no artifact, and its successor can finish."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.s3 import build_manifest, connect_store
from shared.settings import S3Settings
from tests.support.wait import eventually

pytestmark = [pytest.mark.integration, pytest.mark.chaos]
PROGRAM = """
import sys
from pathlib import Path
from shared.s3 import connect_store
from shared.settings import S3Settings
connect_store(S3Settings()).put_dir("killed", Path(sys.argv[1]))
"""


def test_killed_upload(s3_settings: S3Settings, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}.bin").write_bytes(os.urandom(200_000))
    digest = build_manifest("killed", folder).digest
    env = {
        **os.environ, "TUNELOOP_S3_ENDPOINT": s3_settings.s3_endpoint, "TUNELOOP_S3_BUCKET": s3_settings.s3_bucket,
        "TUNELOOP_S3_ACCESS_KEY": s3_settings.s3_access_key,
        "TUNELOOP_S3_SECRET_KEY": s3_settings.s3_secret_key.get_secret_value(),
    }
    with connect_store(s3_settings) as store:
        uri = f"s3://{store.bucket}/killed/{digest.removeprefix('sha256:')}/"
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], env=env)
        eventually(lambda: store.exists(uri + "000.bin"), what="the first file")
        process.kill()
        process.wait()
        assert not store.exists(uri + "299.bin"), "it was killed too late to prove anything"
        assert store.manifest(uri) is None
        assert store.put_dir("killed", folder).uri == uri
        assert store.get_dir(uri, tmp_path / "got").digest == digest
