"""Which worlds are refused, and with what words."""

import pytest

from skipwise.errors import SettingError
from skipwise.settings import apply_settings
from skipwise.simulation.world import WorldSettings, planted_world


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("viewers", 0),
        ("videos", 0),
        ("authors", 0),
        ("topics", 1),
        ("days", 0),
        ("days", 1000),
        ("seed", -1),
        ("views_per_viewer_day", 0.0),
        ("views_per_viewer_day", float("nan")),
        ("activity_spread", -0.1),
        ("taste_strength", -1.0),
        ("glance_share", 1.0),
        ("random_share", 1.1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(SettingError, match=rf"{key} = .*must be .*Change {key}"):
        apply_settings(WorldSettings(), {key: value})


def test_fewer_videos_than_topics_are_refused() -> None:
    with pytest.raises(SettingError, match=r"videos = 5, must be >= topics = 6"):
        WorldSettings(videos=5, topics=6)
    assert WorldSettings(videos=6, topics=6).videos == 6


def test_a_skip_only_world_takes_no_random_exposures() -> None:
    with pytest.raises(SettingError, match=r"random_share = 0.02, must be 0 .*Set random_share=0"):
        WorldSettings(skip_only=True)
    assert WorldSettings(skip_only=True, random_share=0.0).skip_only


def test_the_planted_world_is_skip_only_with_and_without_shuffling() -> None:
    assert planted_world().skip_only
    assert not planted_world().shuffle_outcomes
    assert planted_world(shuffle_outcomes=True).shuffle_outcomes
    assert planted_world(seed=3).seed == 3
