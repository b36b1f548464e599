"""What do other score weights bring when simulated viewers live with them?

    WORLD, DATASET, RUN, two ScoreWeights  ->  live_with  ->  {metric: Lived}, with intervals

- An experiment of two variants with one model, served by the real pipeline, once per seed; each
  seed assigns the viewers anew. Seeds are pooled by their errors.
- Simulated: it says what these viewers would do, and nothing about people.

Reads `closed` and `experiments`; is read by the command line.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from ibis.backends.duckdb import Backend

from skipwise.events.read import read_log
from skipwise.experiments.definition import Definition, Goal, Variant
from skipwise.experiments.effects import Effect, effects_on
from skipwise.experiments.exposure import EXPOSURES_FILE, read_exposures
from skipwise.experiments.panel import make_panel
from skipwise.loop.closed import read_world, run_closed_loop
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.progress import SILENT, Progress
from skipwise.simulation.world import FIRST_DAY

METRICS = ("glance_rate", "watch_per_viewer", "effective_rate", "return_rate")
TODAY, CHOICE = "today", "choice"


class Lived(NamedTuple):
    """An effect of the choice, as a share of what today's weights bring."""

    relative: float
    low: float
    high: float
    """95 % over viewers; worlds are not varied."""
    by_seed: tuple[float, ...]


def live_with(
    world: Path,
    dataset: Path,
    run: Path,
    weights: tuple[ScoreWeights, ScoreWeights],
    connection: Backend,
    *,
    days: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress = SILENT,
) -> Mapping[str, Lived]:
    """Let half of a world's viewers be served by either weights.

    Args:
        world: Folder of `skipwise simulate ... living=true`.
        dataset: DATASET prepared from it.
        run: The RUN of both variants.
        weights: Today's, and the choice.
        connection: The data engine.
        days: How long, from the day after the world's last.
        seeds: Of assignment and of what viewers do.
        progress: Who is told.

    Raises:
        ExperimentError: The world's viewers do not live, or too few were served.
        RunError: The run does not fit the dataset.
    """
    first_day = FIRST_DAY + read_world(world).days
    found: dict[str, list[Effect]] = {name: [] for name in METRICS}
    with tempfile.TemporaryDirectory(prefix="skipwise-trade-") as made:
        folder = Path(made)
        for name, each in zip((TODAY, CHOICE), weights, strict=True):
            save_score_weights(folder / f"{name}.json", each)
        for seed in seeds:
            definition = _definition(folder, run, first_day, days, seed)
            log = folder / f"log-{seed}"
            run_closed_loop(world, dataset, definition, log, seed=seed, progress=progress)
            read = read_log(log, connection)
            exposures = read_exposures(definition, log / EXPOSURES_FILE, read.events)
            panel = make_panel(read, connection, definition, exposures)
            for effect in effects_on(panel, definition, panel.num_days - 1, METRICS):
                found[effect.metric].append(effect)
    return {name: pooled(effects) for name, effects in found.items() if effects}


def pooled(effects: Sequence[Effect]) -> Lived:
    """Pool relative effects by their errors: w_i = 1 / s_i^2, 95 % by the normal."""
    z = NormalDist().inv_cdf(0.975)
    relative = np.array([each.relative for each in effects])
    error = np.array([each.relative_high - each.relative_low for each in effects]) / (2 * z)
    weight = error**-2.0
    value, half = float(np.average(relative, weights=weight)), float(z / np.sqrt(weight.sum()))
    return Lived(value, value - half, value + half, tuple(relative.tolist()))


def _definition(folder: Path, run: Path, first_day: int, days: int, seed: int) -> Definition:
    start = Definition(
        name="score-trade",
        salt=f"seed-{seed}",
        start=str(np.datetime64(first_day, "D")),
        days=days,
        control=TODAY,
        minimum_viewers=10,
        metrics=tuple(Goal(name=name) for name in METRICS),
        folder=folder,
    )
    model = str(run.resolve())
    variants = tuple(
        Variant(name=name, share=0.5, model=model, score=f"{name}.json") for name in (TODAY, CHOICE)
    )
    return dataclasses.replace(start, variants=variants)
