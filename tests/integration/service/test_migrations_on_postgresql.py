"""What the chart's Job does before an install and before each upgrade, on the database of production."""

import importlib
import os
import subprocess
import sys

import pytest
from sqlalchemy import inspect

from shared.db import connect
from tests.support.chart import pods, variant

pytestmark = pytest.mark.integration
COMMANDS = [
    tuple(container["command"][1:]) for pod in pods(variant("defaults")) for container in pod.containers
    if "--migrate" in container["command"]
]


@pytest.mark.parametrize(("flag", "module", "argument"), COMMANDS)
def test_the_job_makes_the_service_s_tables_and_ends(
    flag: str, module: str, argument: str, postgres_url: str
) -> None:
    environment = {**os.environ, "TUNELOOP_DATABASE_URL": postgres_url}
    subprocess.run([sys.executable, flag, module, argument], env=environment, check=True, timeout=120)
    engine = connect(postgres_url)
    tables = set(inspect(engine).get_table_names())
    engine.dispose()
    models = importlib.import_module(f"{module}.models")
    assert tables >= {"inbox", "outbox"} | set(models.Base.metadata.tables)
