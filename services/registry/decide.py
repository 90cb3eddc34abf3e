"""What the registry decides, as pure functions: which fact wins, what a spec's digest is, which stages change.

Facts about one aggregate may arrive late (a dead event that a person lets in again), and facts of different topics
arrive in any order (an evaluation before the end of its training). So every row remembers the position of the newest
fact that it reflects: a newer fact overwrites, an older one only fills what is still unknown.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.errors import PermanentError, TemporaryError
from shared.events import Stage
from shared.pipeline import PipelineSpec

# States that nothing follows. A fact with one of them outranks every fact without, whatever its sequence: the
# sequence counts per source, and a dataset's publication may come from another source than its preparation.
FINAL_STATES = frozenset({
    "prepared", "rejected",  # datasets
    "completed", "failed",  # runs, and evaluations that could not be made
    "passed", "refused",  # evaluations
    "promoted", "rolled_back", "superseded",  # rollouts
})


class Position(NamedTuple):
    """Where a fact stands among the facts about its aggregate; compares as a tuple.

    Attributes:
        final: whether it ends the aggregate's life.
        sequence: of the event; 0 where unknown.
    """

    final: bool
    sequence: int


def position(state: str, sequence: int) -> Position:
    """The position of a fact that puts its aggregate in `state`."""
    return Position(state in FINAL_STATES, sequence)


def merge(current: Mapping[str, Any], at: Position, known: Mapping[str, Any], incoming: Position) -> dict[str, Any]:
    """The columns that change when a fact with the values `known` meets a row at position `at`.

    None in `known` means that the fact does not say.
    """
    told = {column: value for column, value in known.items() if value is not None}
    if incoming < at:
        told = {column: value for column, value in told.items() if current.get(column) is None}
    return {column: value for column, value in told.items() if current.get(column) != value}


def canonical_spec(spec: PipelineSpec) -> str:
    """The one JSON text of a spec: defaults filled in, keys sorted, no spaces.

    Two files with the same meaning have the same text. A default that changes with a release changes the text, and
    rightly so: what the pipeline does has changed.
    """
    return json.dumps(spec.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"),
                      ensure_ascii=False)


def spec_digest(spec: PipelineSpec) -> str:
    """``sha256:`` of the canonical text, in UTF-8."""
    return "sha256:" + hashlib.sha256(canonical_spec(spec).encode()).hexdigest()


@dataclass(frozen=True)
class StageChange:
    """One model version's step from a stage to another."""

    model_version: str
    stage: Stage
    previous: Stage
    reason: str


@dataclass(frozen=True)
class Staged:
    """A model version and its stage."""

    model_version: str
    stage: Stage


def promote(
    candidate: Staged, *, production: str | None, named_previous: Staged | None, reason: str
) -> list[StageChange]:
    """The changes when a candidate's rollout was promoted, in the order in which to make them.

    Args:
        candidate: the version that was promoted.
        production: what is in production in its pipeline now, if anything.
        named_previous: the stable version that the rollout replaced, as the event says; None for the base model.
        reason: the rollout's.

    Raises:
        TemporaryError: the replaced version's own promotion has not arrived. Rollouts are different aggregates, so
            their facts may overtake each other; without this wait an old version would end up in production.
        PermanentError: the candidate was rolled back or archived.
    """
    if candidate.stage in ("production", "archived"):
        return []  # An archived one was in production: this is the fact that we have acted on already.
    if candidate.stage != "candidate":
        raise PermanentError(f"{candidate.model_version} is {candidate.stage}, so it cannot go into production")
    if named_previous is not None and named_previous.stage not in ("production", "archived"):
        raise TemporaryError(
            f"{candidate.model_version} replaced {named_previous.model_version}, which is still "
            f"{named_previous.stage} here: its own promotion has not arrived"
        )
    changes = [StageChange(candidate.model_version, "production", "candidate", reason)]
    if production is not None:
        changes.insert(0, StageChange(production, "archived", "production", f"replaced by {candidate.model_version}"))
    return changes


def promote_again(
    candidate: Staged, *, production: str | None, named_previous: Staged | None, reason: str
) -> list[StageChange]:
    """The changes when a version that had left was promoted after all, by a retry or an undo; arguments as above.

    Raises:
        TemporaryError: a fact that comes before this one has not arrived: the end of the version's earlier rollout,
            or the promotion of the version that it replaced.
    """
    if candidate.stage == "production":
        return []
    if candidate.stage == "candidate":
        raise TemporaryError(f"{candidate.model_version} was promoted again, but its first rollout has not ended here")
    if named_previous is not None and named_previous.stage == "archived":
        return []  # What it replaced has been replaced since: a later promotion was acted on before this one.
    if named_previous is not None and named_previous.stage != "production":
        raise TemporaryError(
            f"{candidate.model_version} replaced {named_previous.model_version}, which is still "
            f"{named_previous.stage} here: its own promotion has not arrived"
        )
    changes = [StageChange(candidate.model_version, "production", candidate.stage, reason)]
    if production is not None:
        changes.insert(0, StageChange(production, "archived", "production", f"replaced by {candidate.model_version}"))
    return changes


def leave(candidate: Staged, stage: Stage, reason: str) -> list[StageChange]:
    """The changes when a candidate's rollout ended without promotion, in `stage` (rolled_back or archived).

    Raises:
        PermanentError: it was promoted meanwhile; a rollout ends only once, so somebody must look.
    """
    if candidate.stage == stage:
        return []
    if candidate.stage != "candidate":
        raise PermanentError(f"{candidate.model_version} is {candidate.stage}, so it cannot become {stage}")
    return [StageChange(candidate.model_version, stage, "candidate", reason)]
