"""What people and webhooks are told of a rollout, as text and JSON. Pure: states in, words out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.rollout.evidence import summary
from services.rollout.models import Rollout
from services.rollout.state import RolloutState
from shared.events import ModelRef, Phase
from shared.pipeline import RolloutPolicy
from shared.webhooks import Notice, Webhook

_BEGIN: dict[Notice, str] = {
    "started": "has begun its rollout", "step": "goes on", "waiting": "waits", "paused": "is paused",
    "resumed": "goes on", "promoted": "was promoted", "rolled_back": "was rolled back",
    "superseded": "was superseded",
}
_COLOURS: dict[Notice, str] = {"promoted": "good", "rolled_back": "danger", "waiting": "warning", "paused": "warning"}
_ENDS: dict[Phase, Notice] = {"promoted": "promoted", "rolled_back": "rolled_back", "superseded": "superseded"}


@dataclass(frozen=True)
class Subject:
    """The rollout that something is said about.

    Attributes:
        stable: what the candidate is compared with; None for the bare base model.
    """

    row: Rollout
    state: RolloutState
    policy: RolloutPolicy
    stable: str | None


def kind_of(before: RolloutState, after: RolloutState) -> Notice | None:
    """What people would call the change from one state to the next; None where it is not worth their time."""
    if after.phase != before.phase and after.phase in _ENDS:
        return _ENDS[after.phase]
    if before.started_at is None and after.started_at is not None:
        return "started"
    if after.phase == "paused" and before.phase != "paused":
        return "waiting" if after.awaits_approval > before.awaits_approval else "paused"
    if after.phase == "progressing" and after.step > before.step:
        return "step"
    if before.phase == "paused" and after.phase in ("staging", "progressing"):
        return "resumed"
    told = {name for name, mine in before.hooks.items() if mine.told}
    return "waiting" if any(mine.told and name not in told for name, mine in after.hooks.items()) else None


def sentence(kind: Notice, about: Subject) -> str:
    """One sentence with the evidence: ``support@4 was rolled back: errors: candidate 12 bad of 40, ...``."""
    state = about.state
    exposed = ""
    if kind == "rolled_back" and state.seconds_exposed is not None:
        users = "" if state.users is None else f" and {state.users} users"
        exposed = f" after {state.seconds_exposed:.0f} s of traffic{users}"
    numbers = f" ({_numbers(about)})" if kind == "promoted" else ""
    return f"{about.row.model_version} {_BEGIN[kind]}{exposed}: {state.reason}{numbers}"


def _numbers(about: Subject) -> str:
    # What an A/B test or an objective counts may be what is wanted.
    return ", ".join(
        f"{name}: {numbers['candidate_bad']:g}{'' if 'effect' in numbers else ' bad'} of "
        f"{numbers['candidate_total']:g} against {numbers['stable_bad']:g} of {numbers['stable_total']:g}"
        for name, numbers in summary(about.state, about.policy).items()
    )


def facts(about: Subject) -> dict[str, Any]:
    """What every call says of the rollout, as JSON values."""
    row, state = about.row, about.state
    return {
        "rollout_id": row.id, "pipeline": row.pipeline, "route": row.route, "model_version": row.model_version,
        "stable": about.stable, "attempt": row.attempt, "phase": state.phase, "step": state.step,
        "steps": len(about.policy.stages), "weight": state.weight, "shadow": state.shadow, "reason": state.reason,
    }


def webhook_body(
    webhook: Webhook, about: Subject, at: datetime, more: Mapping[str, Any], said: Mapping[str, str] | None = None
) -> str:
    """The JSON that a webhook gets: Standard Webhooks' keys, and Flagger's beside them for receivers made for it.

    Args:
        more: facts beside those of the rollout.
        said: metadata of the event; the webhook's own does not replace it.
    """
    row = about.row
    data = {**facts(about), **more, "webhook": webhook.name}
    flagger = {
        "name": row.route, "namespace": row.pipeline, "phase": about.state.phase,
        "checksum": ModelRef.model_validate(row.model).artifact.digest,
        "metadata": {**webhook.metadata, **(said or {})},
    }
    return _json({"type": webhook.type, "timestamp": at.isoformat(), "data": data, **flagger})


def event_metadata(event_type: str, text: str, bad: bool, at: datetime) -> dict[str, str]:
    """What Flagger puts into the metadata of an event's call."""
    return {
        "eventMessage": text, "eventType": "Warning" if bad else "Normal", "event": event_type,
        "timestamp": str(round(at.timestamp() * 1000)),
    }


def json_body(kind: Notice, about: Subject, at: datetime) -> str:
    """A notification with all facts, for programs."""
    return _json({
        "type": f"rollout.{kind}", "timestamp": at.isoformat(),
        "data": {**facts(about), "text": sentence(kind, about), "evidence": summary(about.state, about.policy)},
    })


def slack_body(kind: Notice, about: Subject, at: datetime) -> str:
    """A notification for an incoming webhook of Slack, or of what understands the same."""
    state, row = about.state, about.row
    fields = {"Route": row.route, "Rollout": row.id, "Stable": about.stable or "base model",
              "Step": f"{state.step} of {len(about.policy.stages)}", "Weight": f"{state.weight / 100:g} %"}
    return _json({
        "text": _escaped(sentence(kind, about)),
        "attachments": [{
            "color": _COLOURS.get(kind, "#439fe0"), "ts": round(at.timestamp()),
            "fields": [{"title": title, "value": _escaped(value), "short": True} for title, value in fields.items()],
        }],
    })


def _escaped(text: str) -> str:
    """Slack's three; without them a reason could name everybody (``<!channel>``)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
