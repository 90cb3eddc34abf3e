"""Estimated peaks of memory against measured ones: ``python -m benchmarks.estimate [--only MODEL] [--process]``.

Each case trains two steps on the CPU with every allocation of torch counted. With ``--process`` it is done once more in
a process of its own with nothing counted but what the kernel says that it took. Prints a table and exits with 1 where
an estimate is more than a fifth off the counted allocations. Where answers are drawn, the peak of that has a line, too.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import said_by
from shared.base_models import BUILDERS
from shared.estimate import Setup, memory, shape_of
from shared.estimate.activations import TILE_TOKENS, TILE_WORDS
from shared.estimate.memory import DRAWING
from shared.recipe import FROZEN_BASE
from tests.support.training_peaks import measure, measure_resident

TOLERANCE = 0.2
CPU = {"precision": "float32", "gradient_checkpointing": False, "device": "cpu"}
TINY = {"micro_batch": 16, "sequence_length": 256}
SMOL = {"micro_batch": 1, "sequence_length": 256}
SHORT = {"micro_batch": 1, "sequence_length": 16}
DRAWN: dict[str, Any] = {"method": "lora", "objective": "grpo", "sequence_length": 128, "answer_tokens": 24}
SMOL_WEIGHTS = 134_515_008
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tiny", {"method": "lora", **TINY}),
    ("tiny", {"method": "lora", **TINY, "loss": "full"}),
    ("tiny", {"method": "full", **TINY}),
    ("tiny", {"method": "dora", **TINY}),
    ("tiny", {"method": "ia3", **TINY}),
    ("tiny", {"method": "prefix", **TINY}),
    ("tiny", {"method": "prompt", **TINY}),
    ("tiny", {"method": "adapter", **TINY}),
    ("tiny", {"method": "lora", **TINY, "gradient_checkpointing": True, "loss": "full"}),
    ("tiny", {"method": "lora", "micro_batch": 4, "sequence_length": 128, "precision": "mixed"}),
    *(("tiny", {"method": method, **TINY, "precision": "bfloat16", "loss": "full"}) for method in sorted(FROZEN_BASE)),
    ("tiny", {"method": "lora", **TINY, "precision": "bfloat16", "loss": "full", "gradient_checkpointing": True}),
    ("tiny", {"method": "qlora", "micro_batch": 4, "sequence_length": 128, "precision": "bfloat16"}),
    ("smollm2-135m-instruct", {"method": "lora", **SMOL}),
    ("smollm2-135m-instruct", {"method": "lora", **SMOL, "precision": "bfloat16"}),
    ("smollm2-135m-instruct", {"method": "dora", **SMOL, "precision": "bfloat16"}),
    ("smollm2-135m-instruct", {"method": "full", **SHORT}),
    ("smollm2-135m-instruct", {"method": "lora", **SMOL, "gradient_checkpointing": True}),
    ("smollm2-135m-instruct", {"method": "full", **SMOL, "loss": "full"}),
    ("smollm2-135m-instruct", {"method": "full", "optimizer": "adamw_8bit", **SHORT}),
    ("smollm2-135m-instruct", {"method": "dora", **SMOL}),
    ("smollm2-135m-instruct", {"method": "ia3", **SMOL}),
    ("smollm2-135m-instruct", {"method": "prefix", **SMOL}),
    ("smollm2-135m-instruct", {"method": "prompt", **SMOL}),
    ("tiny", {**DRAWN, "micro_batch": 2, "gradient_accumulation": 32, "sequence_length": 192, "answer_tokens": 8}),
    ("tiny", {**DRAWN, "micro_batch": 4, "gradient_accumulation": 4, "precision": "mixed"}),
    ("tiny", {**DRAWN, "method": "full", "micro_batch": 4, "gradient_accumulation": 4, "precision": "mixed"}),
    ("tiny", {**DRAWN, "micro_batch": 4, "gradient_accumulation": 4, "precision": "bfloat16"}),
    ("tiny", {**DRAWN, "method": "adapter", "objective": "ppo", "micro_batch": 8, "precision": "bfloat16"}),
    ("tiny", {**DRAWN, "method": "full", "objective": "ppo", "micro_batch": 8}),
    ("smollm2-135m-instruct", {
        **DRAWN, "micro_batch": 2, "gradient_accumulation": 4, "answer_tokens": 16, "reward_parameters": SMOL_WEIGHTS,
    }),
)


@dataclass(frozen=True)
class Line:
    """A row of the table; bytes. `resident` is None where the process was not looked at. `drawing`: not of the whole
    training, but while answers are drawn.
    """

    model: str
    setup: Setup
    estimated: int
    counted: int
    resident: int | None
    untouched: int
    drawing: bool = False

    @property
    def off(self) -> float:
        return self.estimated / self.counted - 1


def child(source: str, setup: str) -> None:
    """What this process grows by; JSON on stdout."""
    print(json.dumps(measure_resident(Path(source), Setup.model_validate_json(setup))))


def resident(source: Path, setup: Setup) -> int:
    """What a fresh process grows by."""
    return int(said_by(str(setup), "benchmarks.estimate", ["--child", str(source), setup.model_dump_json()],
                       {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}))


def compare(model: str, source: Path, values: dict[str, Any], *, process: bool) -> list[Line]:
    setup = Setup.model_validate({**CPU, **values})
    shape = shape_of(json.loads((source / "config.json").read_text(encoding="utf-8")))
    # A tile of logits is allocated for 32,768 words; the kernel gives no page for words that the model does not have.
    tokens = min(setup.micro_batch * (setup.length - 1), TILE_TOKENS)
    spare = max(0, TILE_WORDS - shape.vocabulary) * tokens * setup.compute_bytes if setup.loss == "chunked" else 0
    foreseen, found = memory(shape, setup), measure(source, setup)
    lines = [Line(model, setup, foreseen.peak, found.bytes, resident(source, setup) if process else None, spare)]
    if setup.draws:
        lines.append(Line(model, setup, foreseen.phases[DRAWING], found.drawing, None, 0, drawing=True))
    return lines


def show(line: Line) -> str:
    setup, mb = line.setup, 1e-6
    said = {
        setup.precision: True, "checkpointing": setup.gradient_checkpointing, "all logits": setup.loss == "full",
        setup.optimizer: setup.optimizer != "adamw", "reward model": setup.reward_parameters > 0,
        "while answers are drawn": line.drawing,
    }
    extras = [name for name, holds in said.items() if holds]
    process = ""
    if line.resident is not None:
        off = (line.estimated - line.untouched) / line.resident - 1
        process = f" {line.resident * mb:.0f} | {100 * off:+.0f} % |"
    kind = setup.method if setup.objective == "sft" else f"{setup.method}, {setup.objective}"
    steps = f" x {setup.gradient_accumulation}" if setup.gradient_accumulation > 1 else ""
    return (
        f"| {line.model} | {kind} | {setup.micro_batch}{steps} x {setup.sequence_length} | {', '.join(extras)} "
        f"| {line.estimated * mb:.0f} | {line.counted * mb:.0f} | {100 * line.off:+.1f} % |{process}"
    )


def folders(base: Path, names: set[str]) -> dict[str, Path]:
    """The models' folders, made where they are not there."""
    found = {}
    for name in sorted(names):
        found[name] = base / name
        if not (found[name] / "config.json").exists():
            BUILDERS[name](found[name])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate", description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "SETUP"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the models are kept between runs")
    parser.add_argument("--only", choices=sorted({model for model, _ in CASES}), help="one model's cases")
    parser.add_argument("--process", action="store_true", help="look at processes too")
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    chosen = [(model, values) for model, values in CASES if options.only in (None, model)]
    with tempfile.TemporaryDirectory() as scratch:
        sources = folders(options.folder or Path(scratch), {model for model, _ in chosen})
        print("| model | method | rows x tokens | | estimated MB | allocated MB | off |"
              + (" process MB | off |" if options.process else ""))
        print("|---|---|---|---|---|---|---|" + ("---|---|" if options.process else ""))
        lines: list[Line] = []
        for model, values in chosen:
            found = compare(model, sources[model], values, process=options.process)
            print("\n".join(show(line) for line in found), flush=True)
            lines += found
    worst = max(lines, key=lambda line: abs(line.off))
    verdict = "met" if abs(worst.off) <= TOLERANCE else "MISSED"
    print(f"\n{len(chosen)} cases; the worst is {100 * worst.off:+.1f} % off ({worst.model}, {worst.setup.method}); "
          f"goal within {100 * TOLERANCE:.0f} %: {verdict}")
    return 0 if verdict == "met" else 1


if __name__ == "__main__":
    sys.exit(main())
