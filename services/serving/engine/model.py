"""The base model with all its adapters in memory. Only the worker's thread may touch it.

PEFT puts its layers into the base model itself, and a layer applies whatever adapter is "active" unless the call says
otherwise. So every call says otherwise: a hook gives each LoRA layer the adapter of each row of the batch, and rows
for the base model pass through untouched. Nothing is ever switched, so nothing can be left switched. Adapters that
PEFT cannot mix in a batch are hooks of our own (`shared.adapters`), and virtual tokens stand in the cache before a
row's own.
"""

import copy
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from services.serving.adapter_files import AdapterFiles, InvalidAdapterError
from shared.adapters.layers import LayerHooks, load_layer_adapters
from shared.adapters.virtual import KINDS, VirtualTokens, load_virtual_tokens, seed
from shared.errors import InvalidInputError
from shared.prompts import end_token_id

# PEFT's word for "no adapter for this row".
_BASE = "__base__"


class Model:
    """A causal language model on the CPU.

    Args:
        path: Hugging Face folder with safetensors weights.
        dtype: ``float32`` or ``bfloat16``.
        max_model_len: wanted limit of tokens; the model's own limit if that is smaller.
    """

    def __init__(self, path: Path, *, dtype: str, max_model_len: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        # The HTTP side encodes while the worker decodes, and a fast tokenizer may not be shared by threads.
        self._decoder = copy.deepcopy(self.tokenizer)
        self._base = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), trust_remote_code=False, use_safetensors=True
        ).eval()
        config = self._base.config
        layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
        if layer_types != {"full_attention"}:
            raise InvalidInputError(
                f"{path}: this engine serves models with full attention in all layers, not {sorted(layer_types)}; "
                "use vLLM"
            )
        self.max_model_len = min(max_model_len, config.max_position_embeddings)
        self.eos = _end_tokens(self._base, self.tokenizer)
        # Renamed in transformers 5.20; the old name warns there.
        takes_cache = "cache" in inspect.signature(self._base.forward).parameters
        self._cache_argument = "cache" if takes_cache else "past_key_values"
        self._peft: PeftModel | None = None
        self._hooked: set[int] = set()
        self._rows: list[str] = []
        self._layers = LayerHooks(self._base, lambda _: self._rows)
        self._virtual: dict[str, VirtualTokens] = {}

    def decode(self, ids: list[int]) -> str:
        """Text of tokens, special ones left out. For the worker's thread; `tokenizer` is the HTTP side's."""
        return str(self._decoder.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def forward(
        self, ids: torch.Tensor, *, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache,
        adapters: Sequence[str | None],
    ) -> torch.Tensor:
        """Extend `cache` by `ids`.

        Args:
            ids: (rows, new tokens).
            mask: (rows, tokens in the cache and new ones); 0 hides padding.
            positions: (rows, new tokens).
            adapters: the adapter's key of each row, None for the base model.

        Returns:
            Logits after each row's last token, (rows, vocabulary).
        """
        self._rows = [key or _BASE for key in adapters]
        output = self._base(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1,
            **{self._cache_argument: cache},
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def begin(self, cache: DynamicCache, adapters: Sequence[str | None]) -> torch.Tensor:
        """Put what the rows' adapters begin with into an empty cache; its mask, (rows, virtual tokens)."""
        like = self._base.get_input_embeddings().weight
        return seed(cache, [self._virtual.get(key) if key else None for key in adapters], like)

    @torch.inference_mode()
    def embed(self, ids: list[int]) -> list[float]:
        """The base model's last hidden state, averaged over the tokens."""
        self._rows = [_BASE]
        output = self._base(
            input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True, logits_to_keep=1
        )
        mean: list[float] = output.hidden_states[-1][0].float().mean(dim=0).tolist()
        return mean

    def load_adapter(self, key: str, files: AdapterFiles) -> None:
        """Add an adapter under `key`.

        Raises:
            InvalidAdapterError: it does not fit this base model; the model is as before.
        """
        if files.kind != "LORA":
            self._load_other(key, files)
            return
        self._check_shapes(files)
        try:
            self._load(key, files.path)
        except Exception as error:
            if self._peft is not None and key in self._peft.peft_config:
                self.delete_adapter(key)
            raise InvalidAdapterError(f"PEFT cannot load {files.path}: {error}") from error
        for module in self._base.modules():
            if isinstance(module, LoraLayer) and id(module) not in self._hooked:
                module.register_forward_pre_hook(self._choose_adapters, with_kwargs=True)
                self._hooked.add(id(module))

    def _load_other(self, key: str, files: AdapterFiles) -> None:
        self._rows = [_BASE]
        try:
            if files.kind in KINDS:
                self._virtual[key] = load_virtual_tokens(files.path, self._base)
            else:
                self._layers.add(key, load_layer_adapters(files.path))
        except (InvalidInputError, KeyError, RuntimeError) as error:
            raise InvalidAdapterError(f"{files.path} does not fit this base model: {error}") from error

    def _load(self, key: str, path: Path) -> None:
        config = LoraConfig.from_pretrained(str(path))
        config.inference_mode = True
        with warnings.catch_warnings():
            # PEFT asks after things that transformers is about to rename.
            warnings.simplefilter("ignore", FutureWarning)
            if self._peft is None:
                self._peft = PeftModel(self._base, config, adapter_name=key)
            result = self._peft.load_adapter(str(path), adapter_name=key, torch_device="cpu")
        self._peft.eval()
        if result.missing_keys or result.unexpected_keys:
            raise ValueError(f"missing {result.missing_keys[:3]}, unexpected {result.unexpected_keys[:3]}")

    def delete_adapter(self, key: str) -> None:
        """Forget an adapter; no row may use it any more."""
        if self._virtual.pop(key, None) is not None:
            return
        if key in self._layers:
            self._layers.remove(key)
            return
        assert self._peft is not None  # noqa: S101 - only what was loaded is deleted
        with warnings.catch_warnings():
            # It warns that another adapter is active now, which means nothing here.
            warnings.simplefilter("ignore")
            self._peft.delete_adapter(key)

    def _choose_adapters(self, _: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        own = self._peft.peft_config if self._peft is not None else {}
        return args, {**kwargs, "adapter_names": [key if key in own else _BASE for key in self._rows]}

    def _check_shapes(self, files: AdapterFiles) -> None:
        modules = dict(self._base.named_modules())
        for name, shape in files.shapes.items():
            place, _, matrix = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
            module = modules.get(place)
            linear = module.get_base_layer() if isinstance(module, LoraLayer) else module
            if not isinstance(linear, torch.nn.Linear):
                raise InvalidAdapterError(f"{name} has no place in the base model: it has no linear layer {place}")
            expected = linear.in_features if matrix == "lora_A" else linear.out_features
            found = shape[1] if matrix == "lora_A" else shape[0]
            if expected != found:
                raise InvalidAdapterError(
                    f"{name} has shape {list(shape)}, but {place} of the base model needs {expected} where it has "
                    f"{found}"
                )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return frozenset({end_token_id(tokenizer), *(int(token) for token in several if token is not None)})
