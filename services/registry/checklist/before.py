"""Before training: the data, and what it is compared with."""

from services.registry.checklist.shared import (
    NO_DATASET,
    NO_SPEC,
    Facts,
    Outcome,
    Questions,
    failed,
    judged,
    not_applicable,
    not_run,
    passed,
)
from shared.errors import InvalidInputError
from shared.estimate import (
    EstimateAnswer,
    EstimateRequest,
    ModelShape,
    Others,
    Setup,
    estimate,
    is_known,
    known_shape,
    setup_of,
)
from shared.estimate.fit import smallest
from shared.estimate.sharing import shared_by
from shared.recipe import TrainingRecipe
from shared.recipe_auto import AutoField

# The least that shared.advice.samples advises for any task and model.
_LEAST_ROWS = 100
# Python with torch, transformers and TRL, before there is a model; measured.
_PROCESS = 650 * 10**6
# What memory follows from, of what a recipe may leave open.
_SIZES: frozenset[AutoField] = frozenset({"batchSize", "gradientAccumulation", "maxLength", "lora.rank"})


_ALTERNATIVES = not_run("`tuneloop advise` says whether prompting or retrieval would do, and records nothing; what the "
                        "bare base reached is below")


def _enough(facts: Facts) -> Outcome:
    if facts.dataset is None or facts.dataset.rows is None:
        return NO_DATASET
    rows = facts.dataset.rows.get("train", 0)
    return judged(rows >= _LEAST_ROWS, f"{rows} rows to train on; {_LEAST_ROWS} are the least for any task, "
                  "`tuneloop advise` says what yours needs")


def _valid(facts: Facts) -> Outcome:
    if facts.dataset is None or facts.dataset.rows_in is None:
        return NO_DATASET
    bad = {reason: count for reason, count in (facts.dataset.rows_rejected or {}).items() if reason != "duplicate"}
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(bad.items())) or "none"
    return passed(f"every one of {facts.dataset.rows_in} rows was parsed; left out as bad: {listed}")


def _duplicates(facts: Facts) -> Outcome:
    if facts.dataset is None or facts.dataset.rows_rejected is None:
        return NO_DATASET
    count = facts.dataset.rows_rejected.get("duplicate", 0)
    return passed(f"rows that repeat another word for word: {count}, left out")


def _splits(facts: Facts) -> Outcome:
    if facts.dataset is None or facts.dataset.rows is None:
        return NO_DATASET
    sizes = ", ".join(f"{name} {count}" for name, count in facts.dataset.rows.items())
    empty = [name for name in ("train", "validation", "test") if not facts.dataset.rows.get(name)]
    return failed(f"no rows in {' and '.join(empty)} ({sizes})") if empty else passed(sizes)


def _contamination(facts: Facts) -> Outcome:
    if facts.dataset is None or facts.dataset.artifact_digest is None:
        return NO_DATASET
    alike, compared = facts.metric("contaminated_rows"), facts.metric("compared_rows")
    if alike is not None and compared is not None:
        return judged(alike == 0, f"of {compared:.0f} test prompts {alike:.0f} are a training prompt but for a few "
                      "words; none is one word for word, as rows are split by a hash of their prompt")
    return passed("rows are split by a hash of their prompt, or of their text: none is in two splits word for word; "
                  "those that only resemble each other were not searched for")


def _near_duplicates(facts: Facts) -> Outcome:
    if facts.learns_texts:
        return not_applicable("texts are compared word for word alone")
    repeated, rows = facts.metric("repeated_rows"), facts.metric("train_rows")
    if repeated is None or rows is None:
        return not_run("the job has not told how many rows repeat each other up to case and punctuation")
    return judged(repeated == 0, f"{repeated:.0f} of {rows:.0f} training rows repeat another one up to case, "
                  "punctuation and white space")


def _personal_data(facts: Facts) -> Outcome:
    found, looked_at = facts.metric("personal_rows"), facts.metric("scanned_rows")
    if found is None or looked_at is None:
        return not_run("the job has not told how many rows hold personal data")
    return judged(found == 0, f"{found:.0f} of {looked_at:.0f} training rows hold a mail address, a phone, card or "
                  "account number, an IP address or a key; names and what has no form are not searched for")


def _baseline(facts: Facts) -> Outcome:
    base = facts.measured("base")
    if base is None:
        return not_run("no evaluation has measured the bare base on the held-out rows")
    return passed(f"the bare base on {base.rows} held-out rows: {numbers(base.metrics)}")


def _memory(facts: Facts) -> Outcome:
    recipe = facts.recipe
    if facts.spec is None or recipe is None:
        return NO_SPEC
    model, still_open = facts.spec.base_model, [name for name in recipe.auto if name in _SIZES]
    if still_open:
        return not_run(f"{', '.join(still_open)} will be what fits: the trainer chooses it when the run begins")
    if not is_known(model):
        return not_run(f"the shape of {model} is not built in; `tuneloop estimate {model}` asks the trainer")
    teacher = recipe.distillation.teacher if recipe.distillation else None
    size = known_shape(teacher).parameters if teacher and is_known(teacher) else 0
    answer = _estimate(recipe, known_shape(model), size)
    peak = f"a step takes about {answer.memory.peak / 10**9:.2g} GB at its peak"
    if recipe.reward and recipe.reward.model:
        peak += ", without its reward model"
    if answer.setup.shards > 1:
        peak += f" on each of {answer.setup.shards} GPUs, which hold a shard of the model each"
    limit = recipe.resources.request()["memory"]
    if answer.setup.device == "cpu":
        return passed(peak) if limit is None else judged(
            answer.memory.peak + _PROCESS <= limit,
            f"{peak}, the process itself about {_PROCESS / 10**9:.2g}; the job may take {limit / 10**9:.2g}",
        )
    return judged(answer.recommended is not None, f"{peak}; the smallest GPU for it: {answer.recommended or 'none'}")


def _estimate(recipe: TrainingRecipe, shape: ModelShape, teacher: int) -> EstimateAnswer:
    """With a copy of the model on each GPU, or a shard where the trainer would take that."""
    others = Others(teacher=teacher)
    setup = setup_of(recipe, others=others, shards=_shards(recipe, shape, setup_of(recipe, others=others)))
    return estimate(shape, EstimateRequest(setup=setup))


def _shards(recipe: TrainingRecipe, shape: ModelShape, whole: Setup) -> int:
    """Into how many the model is cut, where the GPUs are the largest that there are."""
    processes = max(1, recipe.resources.gpu * recipe.resources.nodes)
    try:
        return shared_by(recipe, processes, has_room=lambda: smallest(shape, whole) is not None).shards
    except InvalidInputError:
        return 1  # a recipe that can only be refused


def numbers(metrics: dict[str, float]) -> str:
    """Metrics in words."""
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))


BEFORE: Questions = {
    "prompting and retrieval were considered": _ALTERNATIVES,
    "there are enough rows": _enough,
    "rows are valid": _valid,
    "duplicates are left out": _duplicates,
    "near duplicates are left out": _near_duplicates,
    "personal data is left out": _personal_data,
    "there are train, validation and test rows": _splits,
    "no test row was trained on": _contamination,
    "the bare base was measured": _baseline,
    "its memory was estimated": _memory,
}
