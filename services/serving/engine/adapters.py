"""The names that the engine answers to, and vLLM's calls that change them."""

import asyncio
import time
from pathlib import Path

from services.serving.adapter_files import InvalidAdapterError, read_adapter
from services.serving.engine.errors import ApiError, bad_request, not_found
from services.serving.engine.formats import model_card
from services.serving.engine.generation import Adapter
from services.serving.engine.metrics import ADAPTERS
from services.serving.engine.model import Model
from services.serving.engine.protocol import LoadRequest, UnloadRequest
from services.serving.engine.worker import Worker
from shared.telemetry import get_logger

log = get_logger(__name__)


def invalid_user_input(message: str, param: str | None = None) -> ApiError:
    return ApiError(400, message, kind="InvalidUserInput", param=param)


class Adapters:
    """Loaded adapters by name. Used on the event loop only, so that a look-up and a submit cannot be torn apart.

    Args:
        base_name: what clients call the base model; `base_root` is its folder.
    """

    def __init__(
        self, model: Model, worker: Worker, *, base_name: str, base_root: str, max_loras: int, max_rank: int
    ) -> None:
        self._model = model
        self._worker = worker
        self._base_name = base_name
        self._base_root = base_root
        self._max_loras = max_loras
        self._max_rank = max_rank
        self._listed: dict[str, Adapter] = {}
        self._changing = asyncio.Lock()
        self._count = 0
        self._started = int(time.time())

    def find(self, name: str) -> Adapter | None:
        """The adapter that a client asks for, None for the base model; ApiError 404 for a name that is not listed."""
        if name == self._base_name:
            return None
        if name not in self._listed:
            raise not_found(f"The model `{name}` does not exist.", "model")
        return self._listed[name]

    def cards(self) -> list[dict[str, object]]:
        """Entries of ``GET /v1/models``."""
        base = model_card(
            self._base_name, created=self._started, root=self._base_root, parent=None,
            max_model_len=self._model.max_model_len,
        )
        return [base, *(
            model_card(item.name, created=item.created, root=item.path, parent=self._base_name, max_model_len=None)
            for item in self._listed.values()
        )]

    async def load(self, request: LoadRequest) -> str:
        """Load and list an adapter; vLLM's text on success.

        Raises:
            ApiError: 400 or 404 as vLLM has it, and 400 where vLLM would answer 500 for files that cannot be loaded.
        """
        name, path = request.lora_name, request.lora_path
        if not name or not path:
            raise invalid_user_input("Both 'lora_name' and 'lora_path' must be provided.")
        if request.load_inplace:
            raise bad_request("load_inplace is not supported: load under a new name", "load_inplace")
        async with self._changing:
            if name in self._listed or name == self._base_name:
                raise invalid_user_input(f"The lora adapter '{name}' has already been loaded.", "lora_name")
            if len(self._listed) >= self._max_loras:
                raise bad_request(f"{self._max_loras} adapters are loaded already; unload one first")
            self._count += 1
            adapter = Adapter(name, f"lora{self._count}", path, int(time.time()))
            try:
                files = await asyncio.to_thread(
                    read_adapter, Path(path), max_rank=self._max_rank, server="small"
                )
                await asyncio.wrap_future(self._worker.call(lambda: self._model.load_adapter(adapter.key, files)))
            except OSError as error:
                raise not_found(f"No adapter found for {path}: {error}", "lora_path") from error
            except InvalidAdapterError as error:
                raise bad_request(f"{path}: {error}", "lora_path") from error
            self._listed[name] = adapter
        self._changed("adapter loaded", adapter)
        return f"Success: LoRA adapter '{name}' added successfully."

    async def unload(self, request: UnloadRequest) -> str:
        """Stop listing an adapter; requests under way keep it to their end."""
        name = request.lora_name
        if not name:
            raise invalid_user_input("'lora_name' needs to be provided to unload a LoRA adapter.")
        async with self._changing:
            if name not in self._listed:
                raise not_found(f"The lora adapter '{name}' cannot be found.", "lora_name")
            adapter = self._listed.pop(name)
            self._worker.retire(adapter.key)
        self._changed("adapter unloaded", adapter)
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _changed(self, what: str, adapter: Adapter) -> None:
        ADAPTERS.set(len(self._listed))
        log.info(what, adapter=adapter.name, path=adapter.path, loaded=len(self._listed))
