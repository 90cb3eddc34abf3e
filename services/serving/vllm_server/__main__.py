"""``python -m services.serving.vllm_server``: fetch the base model and become vLLM."""

import json
import os
import sys

from services.serving.base_model import fetch_base_model
from services.serving.vllm_server.arguments import command, environment
from services.serving.vllm_server.settings import VllmSettings
from shared.settings import load_settings
from shared.telemetry import configure, get_logger

log = get_logger(__name__)


def main() -> int:
    """Become vLLM; the exit code where that is not possible."""
    settings = load_settings(VllmSettings)
    configure(settings)
    folder = settings.model_path or fetch_base_model(settings, settings.base_model, settings.cache_dir)
    try:
        argv = command(settings, folder, json.loads((folder / "config.json").read_bytes()))
        log.info("starting vLLM", command=" ".join(argv))
        os.execvpe(argv[0], argv, environment(settings, os.environ))
    except (OSError, ValueError) as error:
        log.error(  # noqa: TRY400 - the message says it all
            "cannot start vLLM; check TUNELOOP_VLLM_PYTHON and the base model's folder", reason=str(error),
            python=str(settings.vllm_python), folder=str(folder),
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
