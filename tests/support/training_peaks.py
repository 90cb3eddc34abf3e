"""The true peak of memory of a training step, as torch's allocator counts it: the trainer's libraries on any shape.

The profiler sees every allocation and release from before the model exists, so the peak is exact and the same on every
machine. What the process holds besides (libraries, Python) is not in it.
"""

import gc
import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from shared.adapters.bottleneck import add_bottlenecks
from shared.base_models.folders import quiet_transformers
from shared.estimate import Setup
from tests.support.objective_peaks import DRAWING, trainer_of

_OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}
_STEPS = 2
_STEP = "tuneloop training"


@dataclass(frozen=True)
class Peak:
    """What was measured: the most bytes at once, and how many weights had gradients of how many.

    Attributes:
        drawing: of `bytes`, the most while answers were drawn; 0 where none were.
    """

    bytes: int
    drawing: int
    trained: int
    parameters: int


def measure(source: Path, setup: Setup) -> Peak:
    """The peak of two steps of a model on the CPU.

    Args:
        source: a folder with a ``config.json``, which gets random weights unless it has its own.
    """
    gc.collect()
    with warnings.catch_warnings(), quiet_transformers(), redirect_stdout(StringIO()), \
            tempfile.TemporaryDirectory() as scratch, _allocations() as events:
        warnings.simplefilter("ignore")
        trainer = _trainer(source, setup, Path(scratch))
        trained = sum(value.numel() for value in trainer.model.parameters() if value.requires_grad)
        with record_function(_STEP):
            trainer.train()
        parameters = trainer.model.num_parameters()
        del trainer
        gc.collect()
    held = peak = drawing = 0
    for change, inside in events:
        held += change
        peak = max(peak, held) if _STEP in inside else peak
        drawing = max(drawing, held) if DRAWING in inside else drawing
    return Peak(peak, drawing, trained, parameters)


def measure_resident(source: Path, setup: Setup) -> int:
    """How much the process grows at most while it loads and trains, as the kernel counts it; bytes.

    For a fresh process: what earlier work left in the allocator would hide growth. Set MALLOC_MMAP_THRESHOLD_ to a
    small number, so that what is freed is given back.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts again from here
    before = _status("VmRSS")
    with warnings.catch_warnings(), quiet_transformers(), redirect_stdout(StringIO()), \
            tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")
        _trainer(source, setup, Path(scratch)).train()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@contextmanager
def _allocations() -> Iterator[list[tuple[int, set[str]]]]:
    """Every allocation and, negative, release inside the block, in order of time, and the marked parts it was in.

    The list is filled when the block ends. What happens before the training counts for what is held, and is no part
    of the peak: a CPU loads a model whole before it quantises it.
    """
    changes: list[tuple[int, set[str]]] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield changes
    found = profiler.profiler.kineto_results.events()
    parts = [(event.name(), event.start_ns(), event.end_ns()) for event in found if event.name() in {_STEP, DRAWING}]
    moments = sorted((event.start_ns(), event.nbytes()) for event in found if event.name() == "[memory]")
    changes += [(change, {name for name, begin, end in parts if begin <= moment <= end}) for moment, change in moments]


def _trainer(source: Path, setup: Setup, scratch: Path) -> Any:
    model, tokenizer = _model(source, setup), _tokenizer()
    if setup.objective != "sft" or setup.held_by is not None:
        return trainer_of(model, tokenizer, setup, scratch, source=source, peft=_adapter(setup), steps=_STEPS)
    rows = _rows(model.config.vocab_size, setup)
    arguments: dict[str, Any] = {
        "output_dir": str(scratch), "max_steps": _STEPS, "per_device_train_batch_size": setup.micro_batch,
        "use_cpu": True, "bf16": setup.precision != "float32", "optim": _OPTIMIZERS[setup.optimizer],
        "gradient_accumulation_steps": setup.gradient_accumulation,
        "gradient_checkpointing": setup.gradient_checkpointing, "save_strategy": "no", "report_to": [],
        "dataloader_pin_memory": False, "disable_tqdm": True,
    }
    adapter = _adapter(setup)
    if setup.loss == "full":
        # transformers' own loss, which keeps all logits.
        adapted = model if adapter is None else get_peft_model(model, adapter)
        collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
        return Trainer(model=adapted, train_dataset=rows, data_collator=collator, args=TrainingArguments(**arguments))
    return SFTTrainer(
        model=model, train_dataset=rows, processing_class=tokenizer, peft_config=adapter,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None),
    )


def _model(source: Path, setup: Setup) -> Any:
    dtype = torch.bfloat16 if setup.precision == "bfloat16" else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": False}
    if not (source / "model.safetensors").exists():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(source)
    if setup.method == "qlora":
        compute = torch.float32 if setup.precision == "float32" else torch.bfloat16
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute,
            bnb_4bit_use_double_quant=setup.double_quantization,
        )
    # The profiler sees this thread alone, and no page of a mapped file: weights are loaded here, and copied.
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    model = AutoModelForCausalLM.from_pretrained(source, **options)
    for value in itertools.chain(model.parameters(), model.buffers()):
        value.data = value.data.clone()
    model.config.use_cache = False
    if setup.method == "adapter":
        add_bottlenecks(model, setup.bottleneck)
    if setup.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=setup.gradient_checkpointing)
    return model


def _adapter(setup: Setup) -> Any:
    match setup.method:
        case "lora" | "dora" | "qlora":
            return LoraConfig(
                r=setup.rank, target_modules=setup.target_modules, use_dora=setup.method == "dora",
                lora_dropout=setup.dropout, task_type="CAUSAL_LM",
            )
        case "ia3":
            return IA3Config(task_type="CAUSAL_LM")
        case "prefix":
            return PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=setup.virtual_tokens)
        case "prompt":
            return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=setup.virtual_tokens)
        case _:
            return None


def _rows(vocabulary: int, setup: Setup) -> Dataset:
    """Rows of one length, or with every second one shorter, as they are where batches are padded."""
    lengths = [
        setup.sequence_length if number % 2 == 0 or not setup.padded else max(2, setup.sequence_length // 2)
        for number in range(setup.micro_batch * setup.gradient_accumulation * _STEPS)
    ]
    ids = [[3 + (7 * row + 13 * place) % (vocabulary - 3) for place in range(length)]
           for row, length in enumerate(lengths)]
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def _tokenizer() -> Any:
    """The trainer wants one, although its rows are tokens already."""
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "a": 2}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    return tokenizer
