"""docs/pipeline.md says what shared/pipeline.py does, and the example in it works."""

from collections.abc import Iterator

from shared.docs.pipeline import EXAMPLE, PAGE, _parts, page
from shared.pipeline import Pipeline, parse_pipeline
from shared.spec_part import SpecPart


def parts() -> Iterator[tuple[str, type[SpecPart]]]:
    return _parts("", Pipeline)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "docs/pipeline.md is stale: run `python -m shared.docs.pipeline`"


def test_every_key_says_what_it_is_for() -> None:
    silent = [f"{path}.{name}" for path, model in parts() for name, field in model.model_fields.items()
              if not field.description]
    assert silent == []


def test_the_example_is_a_pipeline() -> None:
    pipeline = parse_pipeline(EXAMPLE.read_text(), source=str(EXAMPLE))
    assert pipeline.route == "support-intents"


def test_the_page_lists_parts_inside_lists() -> None:
    paths = [path for path, _ in parts()]
    assert "spec.evaluation.gates[]" in paths
    assert "spec.rollout.guardrails[]" in paths
    assert "spec.training.earlyStopping" in paths
