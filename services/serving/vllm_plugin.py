"""tuneloop's plugin for vLLM: entry point ``tuneloop`` in the group ``vllm.general_plugins``.

vLLM calls `register` in the API server, the engine core and every worker, so it must be cheap and make no connection.
Only the API server ever resolves.
"""

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from services.serving.resolver import Resolver, ResolverSettings


class TuneloopResolver(LoRAResolver):  # type: ignore[misc]  # vLLM lives in an environment of its own
    """Gives vLLM what the adapter agent wants it to have."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:  # noqa: ARG002 - vLLM's
        root = await self._resolver.resolve(lora_name)
        # vLLM puts in an id of its own.
        return None if root is None else LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=root)


def register() -> None:
    """Called by vLLM in each of its processes; does nothing where no file of wanted adapters is configured."""
    settings = ResolverSettings()
    if settings.wanted_file is not None:
        resolver = Resolver.from_settings(settings, settings.wanted_file)
        LoRAResolverRegistry.register_resolver("tuneloop", TuneloopResolver(resolver))
