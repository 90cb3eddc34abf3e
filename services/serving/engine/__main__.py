"""``python -m services.serving.engine``: fetch the base model, load it, serve it until SIGTERM."""

import os
import sys
import threading
from pathlib import Path

import uvicorn

from services.serving.base_model import fetch_base_model
from services.serving.engine.settings import EngineSettings
from shared.errors import InvalidInputError
from shared.settings import load_settings
from shared.telemetry import configure, get_logger

log = get_logger(__name__)


def main() -> int:
    """Run the engine; the process's exit code."""
    settings = load_settings(EngineSettings)
    configure(settings)
    folder = settings.model_path or fetch_base_model(settings, settings.base_model, settings.cache_dir)
    try:
        return serve(settings, folder)
    except InvalidInputError as error:
        log.error("cannot serve this model", reason=str(error))  # noqa: TRY400 - the message says it all
        return 2


def serve(settings: EngineSettings, folder: Path) -> int:
    """Load the model and answer requests until SIGTERM or SIGINT."""
    # Threads that spin while they wait take the core from whoever they wait for, on a machine that others use too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from transformers.utils.logging import disable_progress_bar

    from services.serving.engine.adapters import Adapters
    from services.serving.engine.app import Engine, build_app
    from services.serving.engine.model import Model
    from services.serving.engine.worker import Worker
    from services.serving.faults import Faults

    disable_progress_bar()
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    model = Model(folder, dtype=settings.dtype, max_model_len=settings.max_model_len)
    worker = Worker(
        model, max_batch=settings.max_batch_size, max_prefill_tokens=settings.max_prefill_tokens,
        max_queue=settings.max_queue,
    )
    adapters = Adapters(
        model, worker, base_name=settings.model_name, base_root=str(folder), max_loras=settings.max_loras,
        max_rank=settings.max_lora_rank,
    )
    thread = threading.Thread(target=worker.run, name="worker", daemon=True)
    app = build_app(Engine(model, worker, adapters, Faults() if settings.fault_hooks else None, thread.is_alive))
    server = uvicorn.Server(uvicorn.Config(
        app, host=settings.http_host, port=settings.http_port, log_config=None, access_log=False,
        timeout_graceful_shutdown=10, lifespan="off",
    ))
    thread.start()
    log.info("engine ready", model=settings.model_name, folder=str(folder), threads=torch.get_num_threads(),
             fault_hooks=settings.fault_hooks, max_model_len=model.max_model_len)
    server.run()
    worker.stop()
    thread.join(timeout=10)
    return 0 if server.started and not thread.is_alive() else 1


if __name__ == "__main__":
    sys.exit(main())
