"""Logs and panels of experiments whose effect is known."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from skipwise.experiments.analysis import plan
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Definition, Goal, Guardrail, Variant
from skipwise.experiments.metrics import PARTS
from skipwise.experiments.panel import Panel, add_up
from skipwise.simulation.log import simulate
from skipwise.simulation.world import FIRST_DAY, WorldSettings

TWO = (
    Variant(name="control", share=0.5, model="runs/a"),
    Variant(name="treatment", share=0.5, model="runs/b"),
)

DEFINITION = Definition(
    name="planted",
    start="2024-03-08",
    days=4,
    covariate_days=4,
    minimum_viewers=20,
    variants=TWO,
    metrics=(Goal(name="watch_per_viewer", minimum_effect=0.1), Goal(name="glance_rate")),
    guardrails=(Guardrail(name="return_rate", worse_by_at_most=0.1),),
)
"""Half a world against the other half, from the fifth of its eight days on."""

FILE = """
name = "planted"
start = 2024-03-08
days = 4
covariate_days = 4
minimum_viewers = 20

[[variants]]
name = "control"
share = 0.5
model = "runs/a"

[[variants]]
name = "treatment"
share = 0.5
model = "runs/b"

[[metrics]]
name = "watch_per_viewer"
minimum_effect = 0.1

[[metrics]]
name = "glance_rate"

[[guardrails]]
name = "return_rate"
worse_by_at_most = 0.1
"""
"""The same, as a user writes it."""


def planted_log(folder: Path, *, watch_factor: float, viewers: int = 300) -> Path:
    """Simulate a world whose treated viewers, from the start on, watch so many times as long."""
    simulate(folder, WorldSettings(viewers=viewers, videos=100, authors=20, topics=8, seed=5))
    events = pq.read_table(folder / "events.parquet")
    variants = np.array(assign(DEFINITION, events["viewer_id"].to_pylist()))
    started = np.asarray(events["day"]) >= FIRST_DAY + 4
    treated = started & (variants == "treatment")
    watch_ms = np.asarray(events["watch_ms"]) * np.where(treated, watch_factor, 1.0)
    for name, column in (
        ("watch_ms", pa.array(watch_ms.astype(np.int64))),
        ("variant", pa.array(variants, mask=~started)),
    ):
        events = events.set_column(events.column_names.index(name), name, column)
    pq.write_table(events, folder / "events.parquet")
    return folder


def made_panel(
    rng: np.random.Generator,
    *,
    viewers: int = 400,
    days: int = 7,
    lift: float = 0.0,
    variant: NDArray[np.int64] | None = None,
) -> Panel:
    """Draw viewers of very unequal activity and taste; treated ones watch `lift` more per view."""
    activity = 6.0 * rng.lognormal(0.0, 0.8, viewers)
    patience = rng.beta(4.0, 6.0, viewers)
    if variant is None:
        variant = rng.integers(0, 2, viewers)

    def days_of(number: int, factor: NDArray[np.float64]) -> NDArray[np.float64]:
        came = rng.random((number, viewers)) < 0.7
        views = rng.poisson(activity * came)
        sums = np.zeros((len(PARTS), number, viewers))
        sums[PARTS.index("views")] = sums[PARTS.index("glances_known")] = views
        sums[PARTS.index("glances")] = rng.binomial(views, patience)
        sums[PARTS.index("watch_s")] = views * rng.gamma(2.0, 8.0, (number, viewers)) * factor
        return sums

    before = days_of(days, np.ones(viewers))
    return Panel(
        variant=variant,
        since=np.zeros(viewers, dtype=np.int64),
        segment=rng.integers(0, 3, viewers),
        sums=days_of(days, 1.0 + lift * (variant == 1)),
        before=add_up(before),
    )


def reassigned(panel: Panel, variant: NDArray[np.int64]) -> Panel:
    """Return the same viewers with the same outcomes, assigned otherwise."""
    return dataclasses.replace(panel, variant=variant)


def lifted(panel: Panel, lift: float) -> Panel:
    """Add the same share of the mean watch time of a day to every treated viewer's."""
    watch, sums = PARTS.index("watch_s"), panel.sums.copy()
    sums[watch] += lift * sums[watch].mean(axis=1, keepdims=True) * (panel.variant == 1)
    return dataclasses.replace(panel, sums=sums)


def planned_lift(definition: Definition, rng: np.random.Generator, *, viewers: int) -> float:
    """Return what the plan says is found with the wanted power, of so many drawn viewers.

    Viewers so unlike each other tell their variance only in large numbers: 400,000 in parts.
    """
    many, parts = 50_000, 8
    found = [
        plan(made_panel(rng, viewers=many, days=definition.days), definition)[0].detectable
        for _ in range(parts)
    ]
    return float(np.sqrt(np.mean(np.square(found)) * many / viewers))
