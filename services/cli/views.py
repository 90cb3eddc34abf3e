"""What people see of the registry's and the inbox's answers. Pure: JSON in, tables out."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from services.cli import words
from services.cli.output import Cell, pairs, rows, to_yaml

Item = Mapping[str, Any]


def pipelines(answer: Item, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "NAME": lambda i: i["name"],
        "VERSION": lambda i: str(i["version"]),
        "ROUTE": lambda i: i["route"],
        "BASE MODEL": lambda i: i["base_model"],
        "PRODUCTION": lambda i: i["production"] or "-",
        "CHANGED": lambda i: words.ago(i["updated_at"], now),
    }, empty="no pipelines; `tuneloop apply FILE` makes one")


def pipeline(item: Item) -> RenderableType:
    facts = pairs({
        "name": item["name"], "version": str(item["version"]), "digest": item["digest"], "route": item["route"],
        "production": item["production"] or "-",
        "labels": ", ".join(f"{name}={value}" for name, value in item["labels"].items()),
    })
    return Group(facts, Text(), Text(to_yaml({"spec": item["spec"]}).rstrip()))


def datasets(answer: Item, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "ID": lambda i: i["id"],
        "PIPELINE": lambda i: i["pipeline"],
        "NAME": lambda i: i["name"] or "-",
        "STATE": lambda i: words.state(i["state"]),
        "ROWS": lambda i: words.splits(i["rows"]),
        "DIGEST": lambda i: words.short(i["artifact_digest"]),
        "PUBLISHED": lambda i: words.ago(i["created_at"], now),
    }, empty="no datasets; `tuneloop publish FILE --pipeline NAME` brings one")


def dataset(item: Item) -> RenderableType:
    return pairs({
        "id": item["id"], "pipeline": item["pipeline"], "name": item["name"] or "", "state": words.state(item["state"]),
        "reason": item["reason"] or "", "source": item["source_uri"] or "",
        "source sha256": item["source_sha256"] or "", "artifact": item["artifact_uri"] or "",
        "digest": item["artifact_digest"] or "", "rows in": words.number(item["rows_in"]),
        "rows": words.splits(item["rows"]), "rejected": words.splits(item["rows_rejected"]),
        "published": item["created_at"], "finished": item["finished_at"] or "", "loop": item["correlation_id"],
    })


def runs(answer: Item, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "ID": lambda i: i["id"],
        "PIPELINE": lambda i: f"{i['pipeline']} v{i['pipeline_version']}",
        "STATE": lambda i: words.state(i["state"]),
        "STEP": _steps,
        "LOSS": lambda i: words.number(i["loss"]),
        "VALIDATION": lambda i: words.number(i["validation_loss"]),
        "TOOK": lambda i: words.between(i["started_at"], i["finished_at"], now),
        "STARTED": lambda i: words.ago(i["started_at"], now),
    }, empty="no runs; a published dataset starts one")


def _steps(item: Item) -> str:
    return f"{words.number(item['step'])}/{words.number(item['total_steps'])}" if item["total_steps"] else \
        words.number(item["step"])


def run(item: Item, now: datetime) -> RenderableType:
    facts: dict[str, Cell] = {
        "id": item["id"], "pipeline": f"{item['pipeline']} v{item['pipeline_version']}",
        "state": words.state(item["state"]), "reason": item["reason"] or "", "attempt": words.number(item["attempt"]),
        "step": _steps(item), "loss": words.number(item["loss"]),
        "validation loss": words.number(item["validation_loss"]),
        "tokens/s": words.number(item["tokens_per_second"], 0),
        "left": words.duration(item["eta_seconds"]) if item["state"] == "running" else "",
        "took": words.between(item["started_at"], item["finished_at"], now),
        "dataset": item["dataset_id"] or "", "base model": item["base_model"] or "", **_past(item),
        "adapter": item["adapter_uri"] or "",
        "digest": item["adapter_digest"] or "", "job": item["job"] or "", "loop": item["correlation_id"],
    }
    facts |= {f"metric {name}": words.number(value, 4) for name, value in (item["metrics"] or {}).items()}
    facts |= {f"auto {name}": chosen for name, chosen in (item["chosen"] or {}).items()}
    return pairs(facts)


def _past(item: Item) -> dict[str, Cell]:
    """What a run learned from beside its dataset."""
    return {"goes on from": item["start_digest"] or "", "earlier rows": item["earlier_digest"] or ""}


def trainer_run(item: Item) -> RenderableType:
    """A run as the trainer answers it."""
    return pairs({
        "id": item["id"], "state": words.state(item["state"]), "attempt": words.number(item["attempt"]),
        "reason": item["reason"] or "", "waits for": item["waits_for"] or "", "log": item["logs"] or "",
        "used": words.duration(item["used_seconds"]) if item["used_seconds"] else "",
    })


def checklist(answer: Item) -> RenderableType:
    counts = Counter(check["state"] for check in answer["checks"])
    table = rows(answer["checks"], {
        "WHEN": lambda i: i["phase"], "CHECK": lambda i: i["check"], "STATE": lambda i: words.state(i["state"]),
        "WHY": lambda i: i["why"],
    }, empty="")
    return Group(table, Text("\n" + ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))))


def run_live(item: Item, now: datetime) -> RenderableType:
    """A run while it goes on: the same with a bar."""
    total = item["total_steps"] or 1
    return Group(ProgressBar(total=total, completed=min(item["step"] or 0, total), width=60), run(item, now))


def run_line(item: Item) -> str:
    """A run on one line, for logs."""
    loss = f", loss {words.number(item['loss'])}" if item["loss"] is not None else ""
    going = item["state"] == "running"
    rate = f", {item['tokens_per_second']:.0f} tokens/s" if item["tokens_per_second"] and going else ""
    left = f", {words.duration(item['eta_seconds'])} left" if item["eta_seconds"] and going else ""
    return f"{item['state']}, attempt {words.number(item['attempt'])}, step {_steps(item)}{loss}{rate}{left}"


def runs_line(answer: Item) -> str:
    """The runs that go on, on one line."""
    return "; ".join(f"{i['id']}: {run_line(i)}" for i in answer["items"] if i["state"] == "running") or "nothing runs"


def evaluations(answer: Item, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "ID": lambda i: i["id"],
        "PIPELINE": lambda i: i["pipeline"],
        "STATE": lambda i: words.state(i["state"]),
        "GATES": lambda i: _passed(i["gates"]),
        "WHY": lambda i: i["reason"] or "-",
        "FINISHED": lambda i: words.ago(i["finished_at"], now),
    }, empty="no evaluations; a completed run starts one")


def _passed(gates: list[Item] | None) -> str:
    return f"{sum(gate['passed'] for gate in gates)} of {len(gates)}" if gates else "-"


def evaluation(item: Item) -> RenderableType:
    facts = pairs({
        "id": item["id"], "pipeline": item["pipeline"], "run": item["run_id"], "state": words.state(item["state"]),
        "reason": item["reason"] or "", "compared with": item["production_model_version"] or "the base model",
        "report": item["report_uri"] or "", "loop": item["correlation_id"],
    })
    return Group(facts, Text(), measurements(item["measurements"] or []), Text(), gates(item["gates"] or []))


def measurements(items: list[Item]) -> RenderableType:
    """A row per model and set of rows, then one for each of their tasks; a column per metric."""
    named = [name.partition("/") for item in items for name in item["metrics"]]
    tasks = sorted({task for _, _, task in named if task})
    columns: dict[str, Any] = {
        "MODEL": lambda i: i["subject"], "ON": lambda i: i["on"], "ROWS": lambda i: "" if i["task"] else str(i["rows"]),
    }
    if tasks:
        columns["TASK"] = lambda i: i["task"] or "all"
    for name in sorted({name for name, _, _ in named}):
        columns[name.upper()] = lambda i, name=name: words.number(
            i["metrics"].get(f"{name}/{i['task']}" if i["task"] else name)
        )
    each = [{**item, "task": task} for item in items for task in ("", *tasks)]
    return rows(each, columns, empty="nothing was measured")


def gates(items: list[Item]) -> RenderableType:
    return rows(items, {
        "GATE": lambda i: i["gate"],
        "OUTCOME": lambda i: words.mark(i["passed"]),
        "OBSERVED": lambda i: words.number(i["observed"]),
        "THRESHOLD": lambda i: words.number(i["threshold"]),
        "WHY": lambda i: i["reason"],
    }, empty="no gates were judged")


def models(answer: Item, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "MODEL VERSION": lambda i: i["model_version"],
        "PIPELINE": lambda i: f"{i['pipeline']} v{i['pipeline_version']}",
        "STAGE": lambda i: words.state(i["stage"]),
        "WHY": lambda i: i["stage_reason"] or "-",
        "RUN": lambda i: i["run_id"],
        "REGISTERED": lambda i: words.ago(i["created_at"], now),
    }, empty="no model versions; an evaluation that passes its gates makes one")


def model(item: Item) -> RenderableType:
    return pairs({
        "model version": item["model_version"], "stage": words.state(item["stage"]),
        "reason": item["stage_reason"], "pipeline": f"{item['pipeline']} v{item['pipeline_version']}",
        "route": item["route"], "base model": f"{item['base_model']} ({item['base_model_digest']})",
        "adapter": item["adapter_uri"], "digest": item["adapter_digest"], "run": item["run_id"],
        "evaluation": item["evaluation_id"], "dataset": item["dataset"]["dataset_id"],
        "registered": item["created_at"], "loop": item["correlation_id"],
    })


def lineage(item: Item) -> RenderableType:
    """From the weights back to the source."""
    m, data, run_, judged, rollout = (item[part] for part in ("model", "dataset", "run", "evaluation", "rollout"))
    tree = Tree(Text.assemble((m["model_version"], "bold"), "  ", words.state(m["stage"])))
    _branch(tree, "adapter", {"uri": m["adapter_uri"], "digest": m["adapter_digest"]})
    _branch(tree, "rollout", rollout and {
        "phase": words.state(rollout["state"]), "reason": rollout["reason"] or "",
        "users exposed": words.number(rollout["users_exposed"]) if rollout["users_exposed"] is not None else "",
    })
    _branch(tree, f"evaluation {m['evaluation_id']}", judged and {
        "state": words.state(judged["state"]), "gates": f"{_passed(judged['gates'])} passed",
        "report": judged["report_uri"] or "",
    })
    run_branch = _branch(tree, f"run {m['run_id']}", run_ and {
        "state": words.state(run_["state"]), "steps": words.number(run_["step"]),
        "attempt": words.number(run_["attempt"]), **_past(run_),
    })
    _branch(run_branch, f"base model {m['base_model']}", {"digest": m["base_model_digest"]})
    spec = item["pipeline"]
    _branch(run_branch, f"pipeline {m['pipeline']} v{m['pipeline_version']}", spec and {"digest": spec["digest"]})
    data_branch = _branch(run_branch, f"dataset {m['dataset']['dataset_id']}", {
        "uri": m["dataset"]["artifact"]["uri"], "digest": m["dataset"]["artifact"]["digest"],
        "rows": words.splits(m["dataset"]["rows"]),
    })
    _branch(data_branch, "source", data and {
        "uri": data["source_uri"] or "", "sha256": data["source_sha256"] or "", "name": data["name"] or "",
    })
    return tree


def _branch(tree: Tree, title: str, facts: Mapping[str, Cell] | None) -> Tree:
    table: Table | Text = pairs(facts) if facts else Text("not known here (yet)", style="dim")
    return tree.add(Group(Text(title, style="bold"), table))


def inbox(answer: Item, status: str, now: datetime) -> RenderableType:
    return rows(answer["items"], {
        "SERVICE": lambda i: i["service"],
        "SEQ": lambda i: str(i["seq"]),
        "TYPE": lambda i: i["type"],
        "KEY": lambda i: i["key"],
        "STATUS": lambda i: words.state(i["status"]),
        "ATTEMPTS": lambda i: str(i["attempts"]),
        "RECEIVED": lambda i: words.ago(i["received_at"], now),
        "LAST ERROR": lambda i: i["last_error"] or "-",
    }, empty=f"no {status} events")
