"""A world is recovered from its own log, and the check sees a world that is not like it."""

import dataclasses
import json
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import EventError
from skipwise.events.read import read_log
from skipwise.simulation.fit import compare, fit_world, largest_gap, measured, split_days
from skipwise.simulation.habits import Habits
from skipwise.simulation.log import simulate
from skipwise.simulation.log_facts import LogFacts, facts_of
from skipwise.simulation.world import FIRST_DAY, WorldSettings

KNOWN = WorldSettings(
    viewers=700,
    videos=300,
    days=6,
    seed=8,
    glance_share=0.3,
    habits=Habits(
        surfaces=("home", "search"),
        surface_shares=(0.6, 0.4),
        surface_logits=(-1.5, 1.0),
        surface_zeros=(0.0, 0.6),
        session_views=5.0,
        duration_median_s=30.0,
        stay_scale_s=8.0,
        rewatch_share=0.3,
        glance_shape=2.0,
    ),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "log"
    simulate(folder, KNOWN, truth=False)
    return folder


@pytest.fixture(scope="module")
def halves(log: Path) -> tuple[LogFacts, LogFacts]:
    events, fitted, held_out = split_days(read_log(log, ibis.duckdb.connect(threads=1)))
    assert (fitted, held_out) == ((FIRST_DAY, FIRST_DAY + 3), (FIRST_DAY + 4, FIRST_DAY + 5))
    facts = facts_of(events, fitted)
    return facts, facts_of(events, held_out, facts.surfaces)


def test_what_a_log_tells_at_once_is_read_off(halves: tuple[LogFacts, LogFacts]) -> None:
    facts, _ = halves
    assert facts.surfaces == ("home", "search")
    assert facts.surface_shares[0] == pytest.approx(0.6, abs=0.02)
    assert facts.zeros_by_surface[1] == pytest.approx(0.6, abs=0.03)
    assert facts.rewatch_share == pytest.approx(0.3, abs=0.03)
    assert facts.glance_shape == pytest.approx(2.0, abs=0.15)
    assert facts.glance_share == pytest.approx(0.3, abs=0.02)


def test_a_fitted_world_is_like_the_held_out_days_and_another_is_not(
    halves: tuple[LogFacts, LogFacts],
) -> None:
    facts, held_out = halves
    start = WorldSettings(seed=1)
    world = fit_world(facts, start, rounds=2)
    assert world.habits.stay_scale_s == pytest.approx(8.0, rel=0.35)
    assert world.habits.session_views == pytest.approx(5.0, rel=0.25)
    near = compare(facts, held_out, measured(world, facts.surfaces))
    other = dataclasses.replace(
        start,
        habits=Habits(surfaces=("home", "search"), surface_shares=(0.6, 0.4),
                      surface_logits=(0.0, 0.0), surface_zeros=(0.0, 0.0)),
    )  # fmt: skip
    far = compare(facts, held_out, measured(other, facts.surfaces))
    assert [one.name for one in near] == [one.name for one in far]
    assert sum(one.fits for one in near) >= 0.7 * len(near)
    assert sum(one.fits for one in far) <= 0.3 * len(far)
    gap = {one.name: (one.simulated, two.simulated) for one, two in zip(near, far, strict=True)}
    assert gap["watch time"][0] < 0.05
    assert gap["watch time"][1] > 0.1


def test_the_largest_gap_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=300), np.round(rng.normal(0.3, 1.2, size=200), 1)
    assert largest_gap(one, other) == pytest.approx(ks_2samp(one, other).statistic)


def test_the_command_writes_a_world_and_says_what_does_not_fit(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "like"
    told = CliRunner().invoke(app, ["simulate", str(out), "--fit", str(log), "--no-truth"])
    assert told.exit_code == 0, told.output
    assert "distributions fit the held-out days" in " ".join(told.stdout.split())
    held = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    assert held["world"]["habits"]["surfaces"] == ["home", "search"]
    assert (out / "fit.html").read_text(encoding="utf-8").count("<svg") == 1
    assert (out / "events.parquet").is_file()


def test_too_short_a_log_is_refused(log: Path) -> None:
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    short = dataclasses.replace(read, events=read.events.filter(read.events.day < FIRST_DAY + 2))
    with pytest.raises(EventError, match="the log has 2 days; at least three"):
        split_days(short)
    few: pa.Table = read.events.limit(500).to_pyarrow()
    with pytest.raises(EventError, match="at least 1,000 are needed"):
        facts_of(few, (FIRST_DAY, FIRST_DAY + 5))
