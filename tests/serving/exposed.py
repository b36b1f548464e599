"""Engines that serve an experiment, and what the state says of who was exposed."""

import dataclasses

from skipwise.experiments.definition import Definition, Goal, Guardrail, Variant
from skipwise.features.dataset import Dataset
from skipwise.serving.engine import Engine
from skipwise.serving.exposing import Exposing
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.state.store import START, StateSettings, Store
from skipwise.serving.variants import open_variants
from skipwise.serving.wire import FeedRequest
from skipwise.serving.world import Exposed, read_line
from skipwise.training.checkpoint import TrainedRun

NOON_MS = 20_000 * 86_400_000 + 4 * 3_600_000
"""Of the experiment's first day, in the small log's zone, UTC+8."""

DEFINITION = Definition(
    name="seen",
    start="2024-10-04",
    days=1,
    covariate_days=0,
    minimum_viewers=20,
    variants=(
        Variant(name="control", share=0.4),
        Variant(name="treatment", share=0.4),
    ),
    metrics=(Goal(name="watch_per_viewer"),),
    guardrails=(Guardrail(name="watch_per_viewer", worse_by_at_most=0.1),),
)
"""One model against itself; a fifth of the viewers is in no variant."""


def experimenting(run: TrainedRun, dataset: Dataset, store: Store, at_ms: int = NOON_MS) -> Engine:
    """Open the engine of a process that serves the experiment from a state, at one moment."""
    prepare_state(run.path, dataset.path, store, StateSettings())
    engine = open_engine(run.path, dataset.path, store, clock=lambda: at_ms)
    variants = tuple(dataclasses.replace(each, model=str(run.path)) for each in DEFINITION.variants)
    definition = dataclasses.replace(DEFINITION, variants=variants)
    engine.variants = open_variants(definition, engine.models)
    return engine


def notes(engine: Engine) -> Exposing:
    """Return what an engine notes exposures with."""
    assert engine.variants is not None
    return engine.variants.exposing


def serve(engine: Engine, viewers: list[str]) -> None:
    """Give each viewer a slate."""
    for viewer in viewers:
        engine.feed(FeedRequest(viewer_id=viewer, k=3), "q")


def lines(store: Store) -> list[Exposed]:
    """Return what the state's log says of exposures, in its order."""
    every = (read_line(line.payload) for line in store.follow(START, 100_000) if line.payload)
    return [line for line in every if isinstance(line, Exposed)]
