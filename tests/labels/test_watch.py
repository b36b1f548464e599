import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipwise.errors import EventError, SettingError
from skipwise.labels.watch import (
    FLAG_OF,
    LABELS,
    LabelConfig,
    complete,
    duration_bucket,
    effective,
    finished,
    glance,
    label_watches,
    long,
)

CONFIG = LabelConfig()
UNKNOWN = np.nan


def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([value], dtype=np.float64)


def verdict(value: int) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    return np.array([value], dtype=np.int8)


@pytest.mark.parametrize(
    ("watch_s", "duration_s", "label"),
    [
        (2.999, 60, 1),
        (3.0, 60, 0),  # three seconds are not below three seconds
        (0.0, 60, 1),
        (2.0, 2.5, 1),  # a clip shorter than the limit, left before its end
        (2.5, 2.5, 0),  # and seen whole
        (UNKNOWN, 60, -1),
        (1.0, UNKNOWN, -1),  # it may have been a one-second clip
    ],
)
def test_a_glance_is_early_in_seconds_and_as_a_share(
    watch_s: float, duration_s: float, label: int
) -> None:
    assert glance(one(watch_s), one(duration_s), CONFIG).tolist() == [label]


@pytest.mark.parametrize(
    ("watch_s", "duration_s", "above_s", "label"),
    [
        (5.1, 60, 5.0, 1),
        (5.0, 60, 5.0, 0),  # as long as the others is not longer
        (2.0, 60, 1.0, 0),  # longer than the others, and yet a glance
        (2.0, 2.0, 1.0, 1),  # a short clip seen whole is none
        (5.0, 60, UNKNOWN, -1),
        (1.0, 60, UNKNOWN, -1),  # a glance, but of what the others did nothing is known
        (UNKNOWN, 60, 5.0, -1),
        (5.1, UNKNOWN, 5.0, -1),
    ],
)
def test_effective_and_finished_are_longer_than_the_others(
    watch_s: float, duration_s: float, above_s: float, label: int
) -> None:
    for rule in (effective, finished):
        assert rule(one(watch_s), one(duration_s), one(above_s), CONFIG).tolist() == [label]


@pytest.mark.parametrize(
    ("watch_s", "duration_s", "said", "label"),
    [
        (18.0, 60, -1, 1),
        (17.9, 60, -1, 0),
        (9.0, 9.0, -1, 1),  # min(d, 18) = 9
        (8.9, 9.0, -1, 0),
        (17.9, 60, 1, 1),  # the source's own verdict stands
        (40.0, 60, 0, 0),
        (UNKNOWN, UNKNOWN, 1, 1),  # also where nothing else is known
        (UNKNOWN, 60, 0, 0),
        (UNKNOWN, 60, -1, -1),
        (40.0, UNKNOWN, -1, -1),
    ],
)
def test_a_long_view_is_the_sources_verdict_or_eighteen_seconds_or_all(
    watch_s: float, duration_s: float, said: int, label: int
) -> None:
    assert long(one(watch_s), one(duration_s), verdict(said), CONFIG).tolist() == [label]


@pytest.mark.parametrize(
    ("watch_s", "duration_s", "label"),
    [(60.0, 60, 1), (90.0, 60, 1), (59.9, 60, 0), (UNKNOWN, 60, -1), (60.0, UNKNOWN, -1)],
)
def test_a_complete_view_reaches_the_end(watch_s: float, duration_s: float, label: int) -> None:
    assert complete(one(watch_s), one(duration_s)).tolist() == [label]


def test_flags_are_repeated_and_absent_columns_are_unknown() -> None:
    flags = {"liked": verdict(1), "shared": verdict(0), "disliked": verdict(-1)}
    labels = label_watches(one(5), one(60), one(4), one(6), flags, CONFIG)
    assert tuple(labels) == LABELS
    assert {name: int(labels[name][0]) for name in FLAG_OF} == {
        "like": 1,
        "share": 0,
        "negative": -1,
        "follow": -1,
        "comment": -1,
        "click": -1,
    }
    assert labels["effective"].tolist() == [1]
    assert labels["finished"].tolist() == [0]


@given(
    watch_s=st.floats(0, 400),
    duration_s=st.floats(0.1, 400),
    effective_above_s=st.floats(0, 300),
    further_s=st.floats(0, 100),
)
def test_labels_of_one_watch_never_contradict_each_other(
    watch_s: float, duration_s: float, effective_above_s: float, further_s: float
) -> None:
    above_s = one(effective_above_s), one(effective_above_s + further_s)
    labels = label_watches(one(watch_s), one(duration_s), *above_s, {}, CONFIG)
    if labels["glance"] == 1:
        later = ("effective", "long", "finished", "complete")
        assert all(labels[name] == 0 for name in later)
    assert labels["finished"] <= labels["effective"]
    assert labels["complete"] <= labels["long"]


def test_durations_are_sorted_into_buckets() -> None:
    config = LabelConfig(duration_edges_s=(10.0, 60.0))
    durations_s = np.array([UNKNOWN, 0.5, 10, 59.9, 60, 9999])
    assert duration_bucket(durations_s, config).tolist() == [0, 1, 2, 2, 3, 3]
    assert config.num_duration_buckets == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"glance_below_s": 0}, "glance_below_s = 0, must be > 0"),
        ({"long_from_s": 2}, "long_from_s = 2, must be >= 3"),
        ({"effective_quantile": 1}, "effective_quantile = 1, must be > 0 and < 1"),
        ({"finished_quantile": 0.4}, "finished_quantile = 0.4, must be >= 0.5"),
        ({"shrinkage_views": 0}, "shrinkage_views = 0, must be > 0"),
        ({"watch_at_most_s": 301}, "watch_at_most_s = 301, must be"),
        ({"duration_edges_s": ()}, "duration_edges_s = "),
        ({"duration_edges_s": (10.0, 10.0)}, "must be 1 to 99 rising numbers"),
        ({"duration_edges_s": (0.0, 10.0)}, "above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        LabelConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("watch_s", "duration_s", "said"),
    [
        ([1.0, -2.0], [60.0, 60.0], r"watch_s\[1\] is -2 s, must be >= 0"),
        ([1.0, 2.0], [0.0, 60.0], r"duration_s\[0\] is 0 s, must be > 0"),
        ([1.0, 2.0], [60.0], "must be of one shape"),
    ],
)
def test_impossible_watches_are_refused(
    watch_s: list[float], duration_s: list[float], said: str
) -> None:
    with pytest.raises(EventError, match=said):
        glance(np.array(watch_s), np.array(duration_s), CONFIG)
