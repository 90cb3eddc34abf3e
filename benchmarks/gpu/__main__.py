"""How fast training is on a GPU: ``python -m benchmarks.gpu [--shape llama-3.1-8b] [--method qlora]``.

The base has the shape of a known model and random weights, which compute as trained ones do. Contenders take turns,
each in a process of its own. Prints real tokens a second, the share of the GPU's peak (MFU), and the memory at most
beside what the estimator foresaw. There are no bars: what is fast depends on the GPU.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from benchmarks.gpu.contender import CONTENDERS, Speed, Work
from benchmarks.processes import said_by
from services.trainer.job.speed import speed
from shared.base_models.folders import quiet_transformers
from shared.base_models.tiny import build_tiny
from shared.estimate import memory, setup_of, shape_of
from shared.estimate.known import KNOWN

METHODS = ("lora", "qlora", "full")


def build_base(shape: str, folder: Path) -> None:
    """A base of the shape with random weights, in bfloat16 as most are published, and the tiny model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    build_tiny(folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    values = dict(KNOWN[shape])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(17)
    with quiet_transformers():
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)


def measured(name: str, work: Work) -> Speed:
    """One run of a contender.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    return Speed(**said_by(name, "benchmarks.gpu.contender", [name, json.dumps(asdict(work), default=str)],
                           {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}))


def line(name: str, speeds: Sequence[Speed], work: Work, device: str | None) -> str:
    """A row of the table: medians of the rounds.

    Args:
        device: what the driver calls the GPU; None on a CPU.
    """
    shape, recipe, last = shape_of(json.loads((work.base / "config.json").read_bytes())), work.recipe, speeds[-1]
    rate = median(each.tokens / each.seconds for each in speeds)
    told = speed(recipe, shape, last.lengths, rate, device=device, bfloat16=last.bfloat16)
    used = f"{100 * told['mfu']:.1f} %" if "mfu" in told else ""
    peak = f"{max(each.peak for each in speeds) * 1e-9:.1f}" if last.peak else ""
    foreseen = ""
    if name == "tuneloop":
        foreseen = f"{memory(shape, setup_of(recipe, on_gpu=device is not None)).peak * 1e-9:.1f}"
    return f"| {name} | {rate:.0f} | {used} | {peak} | {foreseen} |"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--shape", choices=KNOWN, default="llama-3.2-1b")
    parser.add_argument("--method", choices=METHODS, default="lora")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--longest", type=int, default=2048, help="tokens of the longest row")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="go on without a GPU, to see that it runs (--shape tiny)")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    import torch

    given = options()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if device is None and not given.cpu:
        raise SystemExit("torch finds no GPU here, so nothing is measured; --cpu --shape tiny shows that it runs")
    with tempfile.TemporaryDirectory(prefix="tuneloop-gpu-") as scratch:
        work = Work(Path(scratch) / "base", given.method, given.rows, given.longest, given.batch, given.seed)
        build_base(given.shape, work.base)
        names = list(CONTENDERS) if given.method != "qlora" else ["tuneloop"]
        found: dict[str, list[Speed]] = {name: [] for name in names}
        for number in range(given.rounds):
            for name, speeds in found.items():
                speeds.append(measured(name, replace(work, seed=given.seed + number)))
                print(f"round {number + 1}: {name}: {speeds[-1].tokens / speeds[-1].seconds:.0f} tokens/s", flush=True)
        print(f"\n{given.shape}, {given.method}, {given.rows} rows of up to {given.longest} tokens, {given.batch} a "
              f"step, {given.rounds} rounds, on {device or 'a CPU'}\n")
        print("| | real tokens/s | MFU | GB at most | GB foreseen |\n|---|---|---|---|---|")
        print("\n".join(line(name, speeds, work, device) for name, speeds in found.items()))


if __name__ == "__main__":
    main()
