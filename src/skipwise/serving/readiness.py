"""Could every variant of an experiment be served? Asked before anyone is exposed.

    Definition  ->  check_ready  ->  nothing, or what is wrong with which variant

- Models and weights are read as `serve` and `loop` read them; nothing is served, and nothing of the
  extra `serve` is needed.

Reads `experiments`, `model`, `rules` and `training`; is read by the command line.
"""

from pathlib import Path

import numpy as np

from skipwise.errors import ExperimentError, SkipwiseError
from skipwise.experiments.definition import Definition, Variant
from skipwise.model.score import ScoreWeights, fused_score, load_score_weights
from skipwise.serving.rules import Rules
from skipwise.training.checkpoint import load_run


def check_ready(definition: Definition) -> None:
    """Refuse variants that could not be served.

    Raises:
        ExperimentError: A RUN folder or a file of weights is missing, damaged, of another format or
            changed; weights give no prediction of their model a say; or models were trained by
            other rules than the first, so that they cannot share a state.
    """
    first = definition.variants[0]
    rules = {variant.name: _rules_of(variant, definition.folder) for variant in definition.variants}
    for variant in definition.variants:
        if rules[variant.name] != rules[first.name]:
            raise ExperimentError(
                f"variant {variant.name!r} has the model {variant.model!r}, which was trained by "
                f"other rules (labels, counters or time zone) than that of {first.name!r}; all "
                "variants share one state, so they must be the same. Train one of them anew."
            )


def _rules_of(variant: Variant, folder: Path) -> Rules:
    """Read a variant's model and score; return by what rules the model was trained."""
    what = f"model {variant.model!r}"
    try:
        run = load_run(folder / variant.model)
        what = f"score {variant.score!r}" if variant.score else "default score"
        weights = load_score_weights(folder / variant.score) if variant.score else ScoreWeights()
        chances = {name: np.zeros(1) for name in run.description["objectives"]}
        fused_score(chances, np.zeros(1), weights)  # or nothing has a say
    except SkipwiseError as problem:
        raise ExperimentError(
            f"variant {variant.name!r} cannot be served with its {what}: {problem}"
        ) from None
    return Rules.of(run.description["dataset"])
