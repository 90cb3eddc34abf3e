"""What should be checked before, during and after a training, and what is recorded of it for one run.

A check says ``passed`` or ``failed`` from facts that the registry has heard, with their numbers; ``not_applicable``
where it makes no sense for this run; and ``not_run`` where nobody did it or nobody told, with why. Nothing is assumed.
"""

from services.registry.checklist.after import AFTER
from services.registry.checklist.before import BEFORE
from services.registry.checklist.during import DURING
from services.registry.checklist.production import PRODUCTION
from services.registry.checklist.shared import Check, Checklist, Facts, Outcome, Phase, Questions

__all__ = ["Check", "Checklist", "Facts", "checklist_of"]

_ALL: tuple[tuple[Phase, Questions], ...] = (
    ("before", BEFORE), ("during", DURING), ("after", AFTER), ("production", PRODUCTION),
)


def checklist_of(facts: Facts) -> Checklist:
    """The whole list for a run."""
    checks = []
    for phase, questions in _ALL:
        for name, question in questions.items():
            outcome = question if isinstance(question, Outcome) else question(facts)
            checks.append(Check(phase=phase, check=name, state=outcome.state, why=outcome.why))
    return Checklist(run_id=facts.run.id, state=facts.run.state, checks=checks)
