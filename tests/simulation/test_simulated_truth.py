"""The answer key: probabilities are what outcomes are drawn from, and nothing looks ahead."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from sklearn.metrics import roc_auc_score

from skipwise.errors import EventError
from skipwise.progress import SILENT
from skipwise.simulation.clock import show_times
from skipwise.simulation.exposure import Exposures, plan_exposures
from skipwise.simulation.log import simulate_tables
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.truth import best_possible_auc
from skipwise.simulation.watching import expected_watch_s, leave_at_once
from skipwise.simulation.world import WorldSettings


@pytest.fixture(scope="module")
def world() -> dict[str, pa.Table]:
    return simulate_tables(WorldSettings(seed=4))


@pytest.fixture(scope="module")
def plan() -> Exposures:
    settings, rng = WorldSettings(viewers=200, days=3), np.random.default_rng(0)
    viewers, videos = draw_viewers(settings, rng), draw_videos(settings, rng)
    return plan_exposures(settings, viewers, videos, rng)


def test_truth_has_one_row_per_event_in_the_same_order(world: dict[str, pa.Table]) -> None:
    assert world["truth"]["source_order"].equals(world["events"]["source_order"])


def test_glances_come_as_often_as_the_truth_says(world: dict[str, pa.Table]) -> None:
    """In each tenth of p_glance the share of glances is within 4.5 standard errors of it."""
    p, glanced = _column(world, "truth", "p_glance"), _glanced(world)
    for rows in np.array_split(np.argsort(p), 10):
        error = np.sqrt((p[rows] * (1 - p[rows])).sum()) / rows.size
        assert glanced[rows].mean() == pytest.approx(p[rows].mean(), abs=4.5 * error)


def test_watch_times_come_as_long_as_the_truth_says(world: dict[str, pa.Table]) -> None:
    expected = _column(world, "truth", "expected_watch_s")
    watched = _column(world, "events", "watch_ms") / 1000
    for rows in np.array_split(np.argsort(expected), 10):
        error = (watched[rows] - expected[rows]).std() / np.sqrt(rows.size)
        assert watched[rows].mean() == pytest.approx(expected[rows].mean(), abs=4.5 * error)


def test_the_parts_add_up_to_the_logit(world: dict[str, pa.Table]) -> None:
    names = [name for name in world["truth"].column_names if name.startswith("logit_")]
    assert len(names) == 9
    logit = sum(_column(world, "truth", name) for name in names)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), _column(world, "truth", "p_glance"))


def test_liked_videos_are_those_of_high_affinity(world: dict[str, pa.Table]) -> None:
    affinity, liked = _column(world, "truth", "affinity"), _column(world, "events", "liked")
    assert affinity[liked].mean() > affinity.mean() + 0.2
    disliked = _column(world, "events", "disliked")
    assert affinity[disliked].mean() < affinity.mean() - 0.2


def test_expected_watch_time_is_the_integral_of_survival() -> None:
    """Oracle: quadrature of P(w > t), with p = 0.3, scale 20 s, video of 40 s."""
    jitter_s, rewatch_share = 0.5, 0.08
    stays = quad(lambda t: np.exp(-np.sqrt(t / 20)), 0, 37)[0]
    finishes = np.exp(-np.sqrt(37 / 20))
    stayed = 3 + stays + finishes * (jitter_s / 2 + rewatch_share * 40 / 2)
    found = expected_watch_s(np.array([0.3]), np.array([20.0]), np.array([40.0]))
    assert found[0] == pytest.approx(0.3 * 1.5 + 0.7 * stayed, rel=1e-6)


def test_a_run_of_glances_makes_the_next_likelier_and_a_new_session_forgets_it() -> None:
    """Glances are certain (logit 50): mood grows by 0.2 a glance, up to 4, less 0.2 x 0.65."""
    plan = _two_sessions(first=6, second=2)
    _, mood = leave_at_once(np.full(8, 50.0), plan, 0.2, np.random.default_rng(0), SILENT)
    runs = np.array([0, 1, 2, 3, 4, 4, 0, 1])
    np.testing.assert_allclose(mood, 0.2 * (runs - 0.65))
    _, calm = leave_at_once(np.full(8, -50.0), plan, 0.2, np.random.default_rng(0), SILENT)
    np.testing.assert_allclose(calm, -0.2 * 0.65)


def test_later_outcomes_do_not_change_earlier_ones(plan: Exposures) -> None:
    """Raising the odds from the tenth view of each viewer on leaves the first nine alone."""
    first_row = np.searchsorted(plan.viewer, plan.viewer)
    late = np.arange(plan.viewer.size) - first_row >= 9
    logits = np.zeros(plan.viewer.size)
    glanced, mood = leave_at_once(logits, plan, 0.5, np.random.default_rng(1), SILENT)
    glanced_then, mood_then = leave_at_once(
        logits + 3.0 * late, plan, 0.5, np.random.default_rng(1), SILENT
    )
    assert (glanced == glanced_then)[~late].all()
    assert (mood == mood_then)[~late].all()
    assert (glanced != glanced_then)[late].any()
    assert (mood != mood_then)[late].any()


def test_later_watch_times_do_not_change_when_earlier_views_were_shown(plan: Exposures) -> None:
    first_row = np.searchsorted(plan.viewer, plan.viewer)
    late = np.arange(plan.viewer.size) - first_row >= 9
    watch_ms = np.full(plan.viewer.size, 20_000)
    shown = show_times(plan, watch_ms, np.random.default_rng(1))
    shown_then = show_times(plan, watch_ms + 50_000 * late, np.random.default_rng(1))
    earlier = late.cumsum() - late.cumsum()[first_row] + late[first_row] <= 1  # and the tenth view
    assert (shown == shown_then)[earlier].all()
    assert (shown < shown_then)[~earlier].any()


def test_sessions_wait_for_the_one_before() -> None:
    """A loop, one session after the other, gives the times of the running maximum."""
    plan = replace(_two_sessions(first=2, second=2), session_starts_ms=np.array([1000, 2000]))
    shown = show_times(plan, np.array([5000, 6000, 7000, 8000]), np.random.default_rng(0))
    gaps = np.random.default_rng(0).integers(150, 1200, size=4)
    second = 1000 + 5000 + gaps[0]
    third = second + 6000 + gaps[1] + 35 * 60_000
    assert list(shown) == [1000, second, third, third + 7000 + gaps[2]]
    apart = replace(plan, session_starts_ms=np.array([1000, 9_000_000]))
    shown = show_times(apart, np.array([5000, 6000, 7000, 8000]), np.random.default_rng(0))
    assert shown[2] == 9_000_000


def test_the_best_possible_auc_is_that_of_the_truth_on_drawn_outcomes() -> None:
    """Oracle: the mean over draws of scikit-learn's AUC; and by hand for two rows."""
    rng = np.random.default_rng(0)
    p = np.round(rng.beta(1, 2, size=3000), 2)  # with ties
    drawn = [roc_auc_score(rng.random(p.size) < p, p) for _ in range(200)]
    assert best_possible_auc(p) == pytest.approx(np.mean(drawn), abs=0.002)
    by_hand = (0.8 * 0.2 / 2 + 0.8 * 0.6 + 0.4 * 0.6 / 2) / ((0.8 + 0.4) * (0.2 + 0.6))
    assert best_possible_auc(np.array([0.8, 0.4])) == pytest.approx(by_hand)


@pytest.mark.parametrize("p", [[], [1.0, 1.0], [0.0]])
def test_no_auc_is_made_up_where_one_class_cannot_occur(p: list[float]) -> None:
    with pytest.raises(EventError, match="the AUC needs both"):
        best_possible_auc(np.array(p))


def _two_sessions(*, first: int, second: int) -> Exposures:
    """One viewer with two sessions, one request each."""
    rows = first + second
    session = np.repeat([0, 1], [first, second])
    return Exposures(
        viewer=np.zeros(rows, np.int64),
        video=np.zeros(rows, np.int64),
        session=session,
        request=session,
        position=np.concatenate([np.arange(first), np.arange(second)]),
        surface=np.zeros(rows, np.int64),
        is_random=np.zeros(rows, bool),
        session_starts_ms=np.array([0, 10_000_000]),
    )


def _glanced(world: dict[str, pa.Table]) -> NDArray[np.bool_]:
    glance_below_ms = np.minimum(3000, _column(world, "events", "duration_ms"))
    glanced: NDArray[np.bool_] = _column(world, "events", "watch_ms") < glance_below_ms
    return glanced


def _column(world: dict[str, pa.Table], table: str, name: str) -> NDArray[Any]:
    column: NDArray[Any] = world[table][name].to_numpy()
    return column
