"""What people see of an estimate. Pure."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from services.cli import words
from services.cli.output import pairs, rows

Item = Mapping[str, Any]
_GB = 10**9


def estimate(answer: Item, model: str) -> RenderableType:
    """Memory by part and phase, time, the GPUs that it fits on, and what would make it fit."""
    parts: list[RenderableType] = [_facts(answer, model), Text(), _memory(answer["memory"])]
    if answer["remedies"]:
        parts += [Text("\nDoes not fit. What would help, each alone:", style="yellow"), _remedies(answer["remedies"])]
        parts.append(_together(answer["together"]))
    parts += [Text(), _gpus(answer), *(Text(f"note: {note}") for note in answer["notes"])]
    return Group(*parts)


def _facts(answer: Item, model: str) -> RenderableType:
    setup, time = answer["setup"], answer["time"]
    checkpointing = "with" if setup["gradient_checkpointing"] else "without"
    facts: dict[str, Any] = {
        "model": f"{model} ({answer['family']}), {billions(answer['parameters'])} weights",
        "trained": f"{billions(answer['trainable'])} of them by {setup['method']} "
                   f"({100 * answer['trainable'] / answer['parameters']:.3g} %)",
        "step": f"{setup['micro_batch']} rows of {setup['sequence_length']} tokens, {setup['precision']}, "
                f"{setup['optimizer']}, {checkpointing} gradient checkpointing",
        "peak": gigabytes(answer["memory"]["peak"]), "fits": {True: "yes", False: "no", None: ""}[answer["fits"]],
        "smallest GPU": answer["recommended"] or "none of the table",
    }
    if time:
        facts["time"] = f"{words.duration(time['seconds'])}, {time['tokens_per_second']:.0f} tokens/s"
        facts["GPU hours"] = f"{time['gpu_hours']:.3g}" + ("" if time["usd"] is None else f", {time['usd']:.2f} USD")
    return pairs(facts)


def _memory(memory: Item) -> RenderableType:
    names = ("weights", "beside", "gathered", "gradients", "optimizer", "activations", "logits")
    lines = [{"what": name, "bytes": memory[name]} for name in names
             if name not in ("beside", "gathered") or memory[name]]
    lines += [{"what": f"at once: {phase}", "bytes": count} for phase, count in memory["phases"].items()]
    return rows(lines, {"PART": lambda i: i["what"], "MEMORY": lambda i: gigabytes(i["bytes"])}, empty="")


def _remedies(remedies: list[Item]) -> RenderableType:
    return rows(remedies, {
        "CHANGE": lambda i: i["change"], "PEAK": lambda i: gigabytes(i["peak"]),
        "SAVES": lambda i: gigabytes(i["saves"]), "FITS": lambda i: "yes" if i["fits"] else "no",
    }, empty="")


def _together(steps: list[Item]) -> Text:
    if not steps:
        return Text("\nAll of them together are not enough: a smaller model, or more memory.", style="yellow")
    changes = "; ".join(step["change"] for step in steps)
    return Text(f"\nFits with: {changes} ({gigabytes(steps[-1]['peak'])}).", style="green")


def _gpus(answer: Item) -> RenderableType:
    return rows(answer["hardware"], {
        "GPU": lambda i: i["gpu"], "MEMORY": lambda i: f"{i['memory'] / _GB:.0f} GB",
        "FITS": lambda i: "yes" if i["fits"] else "no" if i["bfloat16"] else "no bfloat16",
        "NEEDS": lambda i: f"{100 * i['used']:.0f} %",
        "TIME": lambda i: words.duration(i["seconds"]),
    }, empty="")


def gigabytes(count: float) -> str:
    """Bytes in the unit of data sheets, 10^9."""
    return f"{count / _GB:.2f} GB" if count >= _GB / 10 else f"{count / 10**6:.2f} MB"


def billions(count: int) -> str:
    """A number of weights: 8.03 B, 42 M, 11 k."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
