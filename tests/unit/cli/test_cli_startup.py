"""A command that only asks a service must not pay for what the services import."""

import subprocess
import sys

HEAVY = ("alembic", "boto3", "fastapi", "kafka", "numpy", "sqlalchemy", "torch", "transformers", "uvicorn")


def test_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, services.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
