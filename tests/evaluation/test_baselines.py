"""What counting alone says: rates drawn towards the usual, random order, features for trees."""

import numpy as np
import pytest

from skipwise.errors import DatasetError, SettingError
from skipwise.evaluation.baselines import (
    RateSettings,
    counted_objectives,
    counter_features,
    every_order,
    surface_rates,
    training_rate,
    video_rate,
    viewer_surface_rate,
)
from skipwise.evaluation.bootstrap import bootstrap
from skipwise.evaluation.metrics import auc_statistic

NAMES = (
    "video.views", "video.glance_known", "video.glance",
    "viewer_surface.views", "viewer_surface.glance_known", "viewer_surface.glance",
)  # fmt: skip
COUNTERS = np.array([[10, 8, 2, 5, 4, 4], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
PRIOR = RateSettings(prior_outcomes=20)


def test_a_videos_rate_is_drawn_towards_the_overall_one() -> None:
    found = video_rate(COUNTERS, NAMES, "glance", overall_rate=0.4, settings=PRIOR)
    np.testing.assert_allclose(found, [(2 + 20 * 0.4) / (8 + 20), 0.4])


def test_a_viewers_rate_is_drawn_towards_that_of_the_surface() -> None:
    found = viewer_surface_rate(
        COUNTERS,
        NAMES,
        "glance",
        surfaces=np.array([1, 7]),
        rate_of_surface=np.array([0.5, 0.9]),
        overall_rate=0.4,
        settings=PRIOR,
    )
    np.testing.assert_allclose(found, [(4 + 20 * 0.9) / (4 + 20), 0.4])


def test_a_surfaces_rate_counts_known_labels_only() -> None:
    surface, label = np.array([0, 0, 2, 2, 2]), np.array([1, 0, 1, 1, -1], dtype=np.int8)
    found = surface_rates(surface, label, RateSettings(prior_outcomes=4))
    usual = 3 / 4
    expected = [(1 + 4 * usual) / (2 + 4), usual, (2 + 4 * usual) / (2 + 4)]
    np.testing.assert_allclose(found, expected)
    assert training_rate(label) == usual


def test_no_known_label_has_no_rate() -> None:
    with pytest.raises(DatasetError, match="No row of the training days has a known label"):
        training_rate(np.array([-1, -1], dtype=np.int8))


def test_an_objective_that_is_not_counted_is_refused() -> None:
    assert counted_objectives(NAMES) == ("glance",)
    with pytest.raises(SettingError, match="objective = 'like', must be one of glance"):
        video_rate(COUNTERS, NAMES, "like", overall_rate=0.1)


def test_a_every_order_is_at_chance_to_the_last_digit_however_few_positives_there_are() -> None:
    """One drawn order of four positives was clear of chance 26 times in 150."""
    random = np.random.default_rng(0)
    viewer = np.repeat(np.arange(30), 16)
    for positives in (2, 4, 200):
        labels = np.zeros(len(viewer), dtype=np.int8)
        labels[random.choice(len(viewer), positives, replace=False)] = 1
        found = every_order(len(viewer), overall_rate=0.3)
        assert set(found.tolist()) == {0.3}
        statistic = auc_statistic(labels, found, viewer)
        measured = bootstrap({"auc": statistic}, 30, samples=200)["auc"]
        assert measured.value == 0.5
        if positives > 2:
            assert measured == (0.5, 0.5, 0.5)


def test_features_are_views_rates_and_what_is_added() -> None:
    features, names = counter_features(
        COUNTERS,
        NAMES,
        overall_rates={"glance": 0.4},
        extra={"hour": np.array([3.0, np.nan])},
        settings=PRIOR,
    )
    assert names == (
        "video.views", "video.glance_rate",
        "viewer_surface.views", "viewer_surface.glance_rate", "hour",
    )  # fmt: skip
    expected = [
        [10, (2 + 20 * 0.4) / (8 + 20), 5, (4 + 20 * 0.4) / (4 + 20), 3],
        [0, 0.4, 0, 0.4, np.nan],
    ]
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    assert features.dtype == np.float32


def test_rates_stay_rates_when_counts_are_rounded() -> None:
    counters = np.array([[1, 1, 1.0001]], dtype=np.float32)
    found = video_rate(counters, NAMES[:3], "glance", overall_rate=1.0)
    assert found[0] <= 1.0
