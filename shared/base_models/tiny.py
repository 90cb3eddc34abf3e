"""A Llama of about one million parameters with a tokenizer of its own: real in every file, made in a second.

It is for tests and for the fast demo. It knows nothing, but a low-rank adapter can teach it: its weights are random
and wide. At the usual width (0.02) the embeddings, which also read the output out, are so short that no adapter
could make the model sure of any token: with hidden states of norm sqrt(128), logits stay below 3.
"""

from pathlib import Path
from typing import Any

from shared.base_models.corpus import sentences
from shared.base_models.folders import quiet_transformers, whole_folder

NAME = "tiny"
VOCABULARY = 1536
CONTEXT = 512
HIDDEN = 160
# Of 80 each: vLLM's attention on the CPU has kernels for some sizes of a head only (32, 64, 80, ...).
HEADS = 2
LAYERS = 2
INIT_STD = 0.09
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
# ChatML, with the mark that tells trainers which tokens are the assistant's.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{%- else -%}{{ message['content'] + '<|im_end|>\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def build_tiny(target: Path, *, seed: int = 17) -> None:
    """Write the tiny base model to `target`: about 4 MB, byte for byte the same for the same seed."""
    import torch

    with quiet_transformers(), torch.random.fork_rng(devices=[]), whole_folder(target) as folder:
        torch.manual_seed(seed)
        tokenizer = _tokenizer(seed)
        _model(tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _tokenizer(seed: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(sentences(seed, 3000), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, START, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=START, eos_token=END, pad_token=PAD, model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _model(tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=3 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=1, max_position_embeddings=CONTEXT, initializer_range=INIT_STD,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ))
