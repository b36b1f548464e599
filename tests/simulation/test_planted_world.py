"""Two-sided: in the planted world skips tell tastes, nothing else does, and shuffled nothing."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from skipwise.simulation.log import simulate_tables
from skipwise.simulation.tables import TOPIC_WORDS
from skipwise.simulation.truth import best_possible_auc
from skipwise.simulation.world import planted_world

TRAIN_DAYS = 5


class Log(NamedTuple):
    """The planted log in columns, ordered by time; ids as codes."""

    viewer: NDArray[np.int64]
    video: NDArray[np.int64]
    author: NDArray[np.int64]
    topic: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    watch_ms: NDArray[np.int64]
    duration_ms: NDArray[np.int64]
    glanced: NDArray[np.bool_]
    p_glance: NDArray[np.float64]
    flagged: NDArray[np.bool_]


@pytest.fixture(scope="module")
def planted() -> Log:
    return _log(simulate_tables(planted_world(seed=1)))


@pytest.fixture(scope="module")
def shuffled() -> Log:
    return _log(simulate_tables(planted_world(seed=1, shuffle_outcomes=True)))


def test_the_best_possible_model_is_well_above_the_rest(planted: Log) -> None:
    assert best_possible_auc(planted.p_glance) > 0.83
    assert roc_auc_score(planted.glanced, planted.p_glance) == pytest.approx(
        best_possible_auc(planted.p_glance), abs=0.015
    )


def test_every_viewer_has_enough_views_to_learn_from(planted: Log) -> None:
    views = np.bincount(planted.viewer)
    assert views.size == 400
    assert 60 < np.median(views) < 100


def test_past_skips_tell_what_will_be_skipped(planted: Log) -> None:
    assert _auc_of_features(planted, _skip_features(planted)) > 0.8


def test_watched_views_tell_nothing(planted: Log) -> None:
    """Positives only, in number, in length and in watch time, per topic, author, video, viewer."""
    assert _auc_of_features(planted, _positive_features(planted)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("column", ["viewer", "video", "author", "topic", "duration_s"])
def test_no_rate_of_anything_but_viewer_and_topic_tells_a_glance(planted: Log, column: str) -> None:
    """Glance rate of each group in the training days, as the score of the later ones."""
    key = planted.duration_ms // 1000 if column == "duration_s" else getattr(planted, column)
    train = ~planted.is_test
    glances = np.bincount(key[train], planted.glanced[train], minlength=key.max() + 1)
    views = np.bincount(key[train], minlength=key.max() + 1)
    rate = (glances + 20 * 0.66) / (views + 20)
    auc = roc_auc_score(planted.glanced[planted.is_test], rate[key[planted.is_test]])
    assert auc == pytest.approx(0.5, abs=0.03)


def test_nobody_likes_anything_and_longer_watches_do_not_tell_taste(planted: Log) -> None:
    assert not planted.flagged.any()
    stayed = ~planted.glanced
    liked_topic = planted.p_glance[stayed] < 0.5
    assert 0.05 < liked_topic.mean() < 0.95
    auc = roc_auc_score(liked_topic, planted.watch_ms[stayed])
    assert auc == pytest.approx(0.5, abs=0.02)


def test_watched_views_fall_evenly_on_all_topics(planted: Log) -> None:
    stayed = np.bincount(planted.topic[~planted.glanced])
    assert stayed.size == 8
    assert stayed / stayed.sum() == pytest.approx(1 / 8, abs=0.015)
    disliked = planted.p_glance > 0.5
    of_disliked = (~planted.glanced & disliked).sum() / stayed.sum()
    assert of_disliked == pytest.approx(2 / 8, abs=0.02)  # 2 of 8 topics are disliked


def test_shuffled_outcomes_can_be_predicted_by_nothing(shuffled: Log) -> None:
    assert roc_auc_score(shuffled.glanced, shuffled.p_glance) == pytest.approx(0.5, abs=0.02)
    assert _auc_of_features(shuffled, _skip_features(shuffled)) == pytest.approx(0.5, abs=0.02)


def test_shuffling_deals_out_the_same_outcomes(planted: Log, shuffled: Log) -> None:
    """All but the few views that the end of the last day cuts off, here or there."""
    first, second = np.sort(planted.watch_ms), np.sort(shuffled.watch_ms)
    assert abs(first.size - second.size) < 20
    shares = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(np.quantile(first, shares), np.quantile(second, shares), rtol=0.02)


def _skip_features(log: Log) -> NDArray[np.float64]:
    """Past skips of the viewer on the topic, and on all topics: (N, 2)."""
    pair = log.viewer * 8 + log.topic
    return np.log1p(
        np.stack([_past_sum(pair, log.glanced), _past_sum(log.viewer, log.glanced)], axis=1)
    )


def _positive_features(log: Log) -> NDArray[np.float64]:
    """Past watched views, long views, finished views and watch time of four kinds: (N, 16)."""
    keys = (log.viewer * 8 + log.topic, log.viewer, log.viewer * 100 + log.author, log.video)
    stayed = ~log.glanced
    values = (
        stayed,
        stayed & (log.watch_ms >= np.minimum(18_000, log.duration_ms)),
        log.watch_ms >= log.duration_ms,
        np.where(stayed, log.watch_ms / 1000, 0.0),
    )
    return np.log1p(np.stack([_past_sum(key, value) for key in keys for value in values], axis=1))


def _past_sum(key: NDArray[np.int64], value: NDArray[Any]) -> NDArray[np.float64]:
    """Sum `value` over the earlier rows of the same key."""
    rows = np.argsort(key, kind="stable")
    before = np.cumsum(value[rows]) - value[rows]
    first = np.searchsorted(key[rows], key[rows])
    past = np.empty(key.size)
    past[rows] = before - before[first]
    return past


def _auc_of_features(log: Log, features: NDArray[np.float64]) -> float:
    """Fit on half the viewers, score the others.

    Split by viewer, as both tastes and counts last: on the same viewers a chance relation of the
    two, learnt from the earlier days, would hold on the later ones (AUC .51 on average).
    """
    train = log.viewer % 2 == 0
    scale = StandardScaler().fit(features[train])
    model = LogisticRegression().fit(scale.transform(features[train]), log.glanced[train])
    scores = model.decision_function(scale.transform(features[~train]))
    return float(roc_auc_score(log.glanced[~train], scores))


def _log(tables: dict[str, pa.Table]) -> Log:
    events, videos = tables["events"], tables["videos"]
    number = {
        name: np.array([int(text[1:]) for text in events[name].to_pylist()])
        for name in ("viewer_id", "video_id")
    }
    topic = np.array([TOPIC_WORDS.index(topics[0]) for topics in videos["topics"].to_pylist()])
    author = np.array([int(text[1:]) for text in videos["author_id"].to_pylist()])
    watch_ms, duration_ms = events["watch_ms"].to_numpy(), events["duration_ms"].to_numpy()
    flags = ("liked", "followed", "commented", "shared", "disliked")
    return Log(
        viewer=number["viewer_id"],
        video=number["video_id"],
        author=author[number["video_id"]],
        topic=topic[number["video_id"]],
        is_test=events["day"].to_numpy() >= events["day"].to_numpy().min() + TRAIN_DAYS,
        watch_ms=watch_ms,
        duration_ms=duration_ms,
        glanced=watch_ms < np.minimum(3000, duration_ms),
        p_glance=tables["truth"]["p_glance"].to_numpy(),
        flagged=np.stack([events[name].to_numpy() for name in flags]),
    )
