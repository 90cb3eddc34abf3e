"""During training: the recipe, and how the run went."""

import math

from services.registry.checklist.shared import (
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
from shared.advice.rates import learning_rate_for
from shared.estimate import is_known, known_shape

# Learning rates are tuned by factors of three; further off than this is another choice and not another tuning.
_FAR = 4.0
# A validation loss this much above the best says that the end is worse than what came before.
_WORSE = 1.05


def _method(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    method = facts.spec.training.method
    return judged(str(method) != "full", f"the method is {method}")


def _learning_rate(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    model, recipe, steps = facts.spec.base_model, facts.spec.training, facts.run.total_steps or facts.run.step
    if "learningRate" in recipe.auto:
        chosen = facts.chosen("learningRate")
        return passed(f"left to the trainer: {chosen}") if chosen else \
            not_run("left to the trainer, which tells what it chose when the run has begun")
    if not is_known(model):
        return not_applicable(f"no rate is advised for {model}, whose shape is not built in: `tuneloop advise -m`")
    if steps is None:
        return not_run("the number of steps has not been told")
    advised = learning_rate_for(recipe, known_shape(model), steps)
    near = advised / _FAR <= recipe.learning_rate <= advised * _FAR
    return judged(near, f"{recipe.learning_rate:g}; about {advised:g} is advised for this model, {recipe.method} and "
                  f"{recipe.objective} in {steps} steps")


def _left_open(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    left = facts.spec.training.auto
    if not left:
        return not_applicable("the recipe says all of its numbers (training.auto)")
    told = {key: chosen for key in left if (chosen := facts.chosen(key))}
    if len(told) < len(left):
        return not_run(f"the trainer tells what it chose for {', '.join(left)} when the run has begun")
    return passed("; ".join(f"{key} {chosen}" for key, chosen in told.items()))


def _checkpointing(facts: Facts) -> Outcome:
    if facts.spec is None:
        return NO_SPEC
    recipe = facts.spec.training
    if recipe.checkpoints_activations(gpu=recipe.resources.gpu > 0):
        return passed("blocks keep their inputs alone and are computed twice (gradientCheckpointing), for less memory")
    return not_applicable("gradientCheckpointing is off: by the recipe, on a CPU, or as prefix cannot; whether a step "
                          "fits without it is said above")


def _finite(facts: Facts) -> Outcome:
    if facts.run.state == "failed":
        return failed(f"the run failed: {facts.run.reason}")
    loss = facts.metric("loss")
    if loss is None:
        return not_run("no loss has been told" if facts.run.loss is None else
                       f"the run is {facts.run.state}; its loss so far is {facts.run.loss:.4g}")
    return judged(math.isfinite(loss), f"the loss of the last step is {loss:.4g}; a run ends at the first one that is "
                  "no number")


def _validated(facts: Facts) -> Outcome:
    best = facts.metric("validation_loss")
    if best is None:
        return not_run("no validation loss has been told")
    return passed(f"the best validation loss is {best:.4g}")


def _overfitting(facts: Facts) -> Outcome:
    best, last = facts.metric("validation_loss"), facts.run.validation_loss
    if best is None or last is None:
        return not_run("it takes two validation losses: the best, and the last that was told")
    kept = facts.spec is not None and facts.spec.training.early_stopping is not None
    saved = "; the best weights were kept" if kept else "; without earlyStopping the last weights were kept"
    return judged(last <= best * _WORSE or kept, f"the last validation loss told is {last:.4g}, the best {best:.4g}"
                  + (saved if last > best * _WORSE else ""))


def _checkpoints(facts: Facts) -> Outcome:
    recipe = facts.recipe
    if recipe is None or facts.run.step is None:
        return NO_SPEC if recipe is None else not_run("no step has been told")
    every = recipe.checkpoint_every_steps
    if facts.run.step < every:
        return not_applicable(f"the run has {facts.run.step} steps, fewer than the {every} between checkpoints")
    return passed(f"every {every} steps, in S3; attempt {facts.run.attempt} of the run")


def _stopping(facts: Facts) -> Outcome:
    recipe = facts.recipe
    if recipe is None:
        return NO_SPEC
    rule, epochs = recipe.early_stopping, recipe.epochs
    if rule is not None:
        return passed(f"after {rule.patience} validations without improvement")
    if "epochs" in recipe.auto:
        return not_run("the trainer chooses the epochs when the run begins")
    return not_applicable("each row is seen once") if epochs <= 1 else \
        failed(f"{epochs:g} epochs and no earlyStopping: rows that are seen again may be learned by heart")


def _answers(facts: Facts) -> Outcome:
    skipped, rows = facts.metric("skipped_rows"), facts.metric("train_rows")
    if skipped is None or rows is None:
        return not_run("the job has not told how many rows it could use")
    return judged(skipped == 0, f"{rows:.0f} rows were trained on; {skipped:.0f} were skipped, whose prompt alone "
                  "fills training.maxLength")


def _ends(facts: Facts) -> Outcome:
    if facts.learns_texts:
        return not_applicable("texts are learned whole, each with the token that ends it")
    ends, rows = facts.metric("end_token_rows"), facts.metric("train_rows")
    if ends is None or rows is None:
        return not_run("the job has not told how many answers it trained to their end")
    return judged(ends == rows, f"{ends:.0f} of {rows:.0f} answers were trained with the token that ends them; the "
                  "others are cut by training.maxLength")


DURING: Questions = {
    "an adapter is tried before full training": _method,
    "the learning rate is one that is advised": _learning_rate,
    "what was left open is known": _left_open,
    "activations are checkpointed": _checkpointing,
    "the loss stayed finite": _finite,
    "the validation loss was watched": _validated,
    "it did not end overfitted": _overfitting,
    "checkpoints were kept": _checkpoints,
    "it stops when it gets no better": _stopping,
    "every row has an answer to learn": _answers,
    "the end token is trained": _ends,
}
