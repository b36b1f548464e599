"""Viewers, videos and what is shown: traits, drift and the plan."""

from dataclasses import replace

import numpy as np
import pytest

from skipwise.simulation.exposure import plan_exposures, run_length
from skipwise.simulation.odds import odds_before_mood
from skipwise.simulation.population import (
    DRIFT_DAYS,
    draw_videos,
    draw_viewers,
    drift_after,
    tastes_on,
)
from skipwise.simulation.world import WorldSettings, planted_world

SETTINGS = WorldSettings(viewers=300, videos=400, topics=10, days=4)


def test_viewers_love_some_topics_dislike_some_and_hardly_mind_most() -> None:
    tastes = draw_viewers(SETTINGS, np.random.default_rng(0)).first_tastes
    assert (tastes > 0.8).mean() == pytest.approx(0.15, abs=0.03)
    assert (tastes < -0.8).mean() == pytest.approx(0.15, abs=0.03)


def test_tastes_drift_slowly_and_keep_their_spread() -> None:
    viewers = draw_viewers(SETTINGS, np.random.default_rng(0))
    viewer, topic = (index.ravel() for index in np.indices(viewers.first_tastes.shape))
    at = {
        days: tastes_on(viewers, viewer, topic, drift_after(np.full(viewer.size, days)))
        for days in (0.0, 7.0, DRIFT_DAYS)
    }
    np.testing.assert_array_equal(at[0.0], viewers.first_tastes.ravel())
    np.testing.assert_allclose(at[DRIFT_DAYS], viewers.later_tastes.ravel(), atol=1e-12)
    assert 0.98 < np.corrcoef(at[0.0], at[7.0])[0, 1] < 1
    assert at[7.0].std() == pytest.approx(at[0.0].std(), rel=0.05)


def test_in_a_skip_only_world_all_viewers_dislike_as_many_topics_for_good() -> None:
    settings = planted_world()
    viewers = draw_viewers(settings, np.random.default_rng(0))
    assert set(np.unique(viewers.first_tastes)) == {-1.0, 1.0}
    assert set((viewers.first_tastes < 0).sum(axis=1)) == {2}  # a quarter of 8 topics
    assert set((viewers.first_tastes < 0).sum(axis=0)) == {100}  # a quarter of 400 viewers
    pairs = np.unique(viewers.first_tastes, axis=0)
    assert len(pairs) == 28  # all of 8 x 7 / 2 kinds of viewers: no topic goes with another
    assert viewers.later_tastes is viewers.first_tastes
    videos = draw_videos(settings, np.random.default_rng(0))
    assert (videos.topics[:, 1:] == -1).all()


def test_topics_of_a_video_differ_and_every_topic_has_a_video() -> None:
    topics = draw_videos(SETTINGS, np.random.default_rng(0)).topics
    assert set(topics[:, 0]) == set(range(10))
    for row in topics:
        named = row[row >= 0]
        assert len(set(named)) == named.size
    assert (topics[:, 1] >= 0).mean() == pytest.approx(0.4, abs=0.08)
    assert (topics[:, 2] >= 0).any()


def test_viewers_are_served_what_they_lean_to_and_what_is_popular() -> None:
    rng = np.random.default_rng(0)
    viewers, videos = draw_viewers(SETTINGS, rng), draw_videos(SETTINGS, rng)
    plan = plan_exposures(replace(SETTINGS, random_share=0.0), viewers, videos, rng)
    shown = viewers.first_tastes[plan.viewer, videos.topics[plan.video, 0]]
    assert shown.mean() > viewers.first_tastes.mean() + 0.2
    assert videos.popularity[plan.video].mean() > 2 * videos.popularity.mean()


def test_sessions_follow_each_other_and_begin_in_the_evening_rather_than_at_night() -> None:
    rng = np.random.default_rng(0)
    viewers, videos = draw_viewers(SETTINGS, rng), draw_videos(SETTINGS, rng)
    plan = plan_exposures(SETTINGS, viewers, videos, rng)
    first_rows = np.unique(plan.session, return_index=True)[1]
    same_viewer = np.diff(plan.viewer[first_rows]) == 0
    assert (np.diff(plan.session_starts_ms)[same_viewer] > 0).all()
    hour = (plan.session_starts_ms // 3_600_000 + 8) % 24
    sessions = np.bincount(hour, minlength=24)
    assert sessions[19:23].sum() > 8 * sessions[1:5].sum()
    assert np.bincount(plan.session).mean() == pytest.approx(5, abs=1.5)  # ten, or a day's end


def test_serving_follows_popularity_within_a_topic() -> None:
    """One topic's videos with weights 1 : 3 are shown 25 % and 75 % of the time."""
    settings = WorldSettings(viewers=500, videos=4, topics=2, days=4, random_share=0.0)
    rng = np.random.default_rng(0)
    viewers, videos = draw_viewers(settings, rng), draw_videos(settings, rng)
    topics = np.array([[0, -1, -1], [1, -1, -1], [0, -1, -1], [1, -1, -1]])
    videos = replace(videos, topics=topics, popularity=np.array([1.0, 9.0, 3.0, 1.0]))
    shown = np.bincount(plan_exposures(settings, viewers, videos, rng).video, minlength=4)
    assert shown[2] / (shown[0] + shown[2]) == pytest.approx(0.75, abs=0.02)
    assert shown[1] / (shown[1] + shown[3]) == pytest.approx(0.90, abs=0.02)


def test_the_same_topic_again_and_again_tires() -> None:
    """The fatigue part is 0.15 per view of the first topic just before, at most four."""
    settings = WorldSettings(viewers=1, videos=2, topics=2, days=1, views_per_viewer_day=30)
    rng = np.random.default_rng(0)
    viewers, videos = draw_viewers(settings, rng), draw_videos(settings, rng)
    plan = plan_exposures(settings, viewers, videos, rng)
    same = replace(plan, video=np.zeros_like(plan.video), session=np.zeros_like(plan.session))
    _, parts = odds_before_mood(settings, viewers, videos, same)
    np.testing.assert_allclose(parts[:6, 6], 0.15 * np.array([0, 1, 2, 3, 4, 4]))


def test_runs_end_with_the_key_and_with_the_session() -> None:
    key = np.random.default_rng(0).integers(0, 2, size=200)
    session = np.repeat(np.arange(20), 10)
    wanted, run = [], 0
    for row in range(200):
        together = row > 0 and key[row] == key[row - 1] and session[row] == session[row - 1]
        run = run + 1 if together else 0
        wanted.append(run)
    assert run_length(key, session).tolist() == wanted
    assert run_length(key[:0], session[:0]).size == 0
