"""Two-sided: each reaction is there, and is not there where it is switched off."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.progress import SILENT
from skipwise.simulation.habits import Habits
from skipwise.simulation.living import LivingViewers, _positive_poisson
from skipwise.simulation.log import simulate_tables
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.watching import expected_watch_s
from skipwise.simulation.world import DAY_MS, FIRST_DAY, WorldSettings

WORLD = WorldSettings(viewers=2000, living=True, days=3, random_share=0.1, seed=2)


def crowd_of(settings: WorldSettings) -> LivingViewers:
    rng = np.random.default_rng(settings.seed)
    return LivingViewers(settings, draw_viewers(settings, rng), draw_videos(settings, rng), rng)


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return simulate_tables(WORLD)


def column(table: pa.Table, name: str) -> NDArray[Any]:
    return np.asarray(table[name])


def test_the_same_seed_lives_the_same_life(tables: dict[str, pa.Table]) -> None:
    assert simulate_tables(WORLD)["events"].equals(tables["events"])
    other = simulate_tables(dataclasses.replace(WORLD, seed=3))["events"]
    assert not other.equals(tables["events"])


def test_the_truth_is_calibrated(tables: dict[str, pa.Table]) -> None:
    """Glances are as frequent as their probabilities say, bin by bin; watch times on average."""
    glance = column(tables["events"], "watch_ms") < 3000
    p = column(tables["truth"], "p_glance")
    order = np.array_split(np.argsort(p), 10)
    for rows in order:
        error = np.sqrt((p[rows] * (1 - p[rows])).sum()) / rows.size
        assert abs(glance[rows].mean() - p[rows].mean()) < 4 * error
    watch_s = column(tables["events"], "watch_ms") / 1000
    gap = watch_s - column(tables["truth"], "expected_watch_s")
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(gap.size)
    wanted = WORLD.glance_share
    assert abs(glance.mean() - wanted) < 0.06


def test_random_exposures_are_uniform_and_say_so(tables: dict[str, pa.Table]) -> None:
    events = tables["events"]
    random = column(events, "policy") == "random"
    assert abs(random.mean() - 0.1) < 0.01
    propensity = column(events, "propensity")
    assert set(propensity[random].tolist()) == {1 / WORLD.videos}
    assert np.isnan(propensity[~random].astype(float)).all()
    video = np.array([int(each[1:]) for each in column(events, "video_id")[random]])
    counts = np.bincount(video * 10 // WORLD.videos, minlength=10)
    expected = random.sum() / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees, p = .001


def test_views_of_one_viewer_never_overlap(tables: dict[str, pa.Table]) -> None:
    events = tables["events"]
    viewer, shown = column(events, "viewer_id"), column(events, "shown_at_ms")
    ends = shown + column(events, "watch_ms")
    order = np.lexsort((shown, viewer))
    same = viewer[order][1:] == viewer[order][:-1]
    assert (shown[order][1:] >= ends[order][:-1])[same].all()


def leaving_after(boredom: float, run: int) -> float:
    settings = dataclasses.replace(WORLD, habits=Habits(boredom=boredom))
    crowd = crowd_of(settings)
    everyone = np.arange(settings.viewers)
    crowd.run[:] = run
    video, surface = np.zeros_like(everyone), np.zeros_like(everyone)
    watched, _ = crowd.watch(everyone, video, surface, np.full(everyone.size, FIRST_DAY * DAY_MS))
    return float(watched.leaves[watched.watch_ms < 3000].mean())


def test_a_run_of_glances_makes_leaving_likelier_only_with_boredom() -> None:
    assert leaving_after(0.35, 5) > 2 * leaving_after(0.35, 0)
    assert abs(leaving_after(0.0, 5) - leaving_after(0.0, 0)) < 0.03


def coming_after(slope: float, stays: float) -> float:
    crowd = crowd_of(dataclasses.replace(WORLD, habits=Habits(return_slope=slope)))
    crowd._views[:], crowd._stays[:] = 10.0, 10.0 * stays
    crowd.sleep()
    return np.unique(crowd.come(1).viewer).size / WORLD.viewers


def test_a_day_of_skips_keeps_viewers_away_only_with_a_slope() -> None:
    assert coming_after(3.0, 0.9) > coming_after(3.0, 0.1) + 0.08
    assert coming_after(0.0, 0.9) == coming_after(0.0, 0.1)


def test_a_tiring_topic_and_a_spoilt_mood_raise_the_odds() -> None:
    crowd = crowd_of(WORLD)
    everyone = np.arange(500)
    args = everyone, np.zeros(500, np.int64), np.zeros(500, np.int64), np.full(500, 1, np.int64)
    fresh = crowd.odds(*args).p_glance
    crowd.topic[:], crowd.repeats[:] = crowd.videos.topics[0, 0], 3
    tired = crowd.odds(*args).p_glance
    crowd.run[:] = 3
    annoyed = crowd.odds(*args).p_glance
    assert (tired > fresh).all()
    assert (annoyed > tired).all()
    crowd.begin(everyone)
    np.testing.assert_allclose(crowd.odds(*args).p_glance, fresh)


def test_what_is_told_afterwards_are_the_odds_asked_before() -> None:
    crowd = crowd_of(WORLD)
    everyone = np.arange(WORLD.viewers)
    crowd.run[:], crowd.repeats[:] = everyone % 6, everyone % 5
    crowd.topic[:] = crowd.videos.topics[everyone % WORLD.videos, 0]
    args = everyone, everyone % WORLD.videos, everyone % 3, np.full(everyone.size, 1, np.int64)
    asked = crowd.odds(*args)
    _, told = crowd.watch(*args)
    np.testing.assert_array_equal(told.parts, asked.parts)
    np.testing.assert_array_equal(told.p_glance, asked.p_glance)
    np.testing.assert_array_equal(told.expected_watch_s, asked.expected_watch_s)
    assert not np.array_equal(crowd.odds(*args).parts, asked.parts)  # for they have moved on


def test_some_feedback_arrives_late() -> None:
    crowd = crowd_of(dataclasses.replace(WORLD, viewers=60_000))
    everyone = np.arange(60_000)
    watched, _ = crowd.watch(
        everyone, everyone % WORLD.videos, everyone % 3, np.full(everyone.size, FIRST_DAY * DAY_MS)
    )
    told = watched.flags.any(axis=1)
    late = watched.feedback_delay_ms > 0
    assert not late[~told].any()
    assert 0.22 < late[told].mean() < 0.38


def test_the_numbers_of_a_visit_are_those_of_a_truncated_poisson() -> None:
    drawn = _positive_poisson(np.full(100_000, 1.3), np.random.default_rng(0))
    assert drawn.min() == 1
    assert abs(drawn.mean() - 1.3 / -np.expm1(-1.3)) < 0.02


@pytest.mark.parametrize("shape", [1.0, 2.5])
def test_the_expected_watch_is_the_mean_of_what_is_drawn(shape: float) -> None:
    habits = Habits(
        glance_shape=shape, rewatch_share=0.3, stay_by_duration=0.5, surface_zeros=(0.5, 0.0, 1.0)
    )
    settings = dataclasses.replace(WORLD, habits=habits, viewers=50_000)
    crowd = crowd_of(settings)
    everyone = np.arange(settings.viewers)
    watched, hidden = crowd.watch(
        everyone, everyone % WORLD.videos, everyone % 3, np.full(everyone.size, FIRST_DAY * DAY_MS)
    )
    gap = watched.watch_ms / 1000 - hidden.expected_watch_s
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(gap.size)
    default = expected_watch_s(np.array([1.0]), np.array([30.0]), np.array([60.0]))
    assert default[0] == pytest.approx(1.5)


def test_nobody_coming_is_a_log_without_rows() -> None:
    rare = dataclasses.replace(WORLD, viewers=2, views_per_viewer_day=1e-6)
    assert simulate_tables(rare, SILENT)["events"].num_rows == 0


def test_what_cannot_live_is_refused() -> None:
    with pytest.raises(SettingError, match="living = true goes with neither"):
        WorldSettings(living=True, shuffle_outcomes=True)
    with pytest.raises(SettingError, match=r"surface_shares add up to 1\.5"):
        Habits(surface_shares=(0.75, 0.5, 0.25))
    with pytest.raises(SettingError, match="there must be as many of each"):
        Habits(surfaces=("feed",))
