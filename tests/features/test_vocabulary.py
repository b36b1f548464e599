"""A vocabulary holds the words of the training window, and gives any dataset its indices."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.features.vocabulary import (
    FIRST,
    TOPICS_AT_MOST,
    UNSEEN,
    NumberScale,
    Vocabulary,
    bind,
    learn_vocabulary,
)
from tests.worlds import days_of, timed_rows, with_events


def rows_until(dataset: Dataset, days: int) -> NDArray[np.int64]:
    """Return the rows of the first so many days."""
    return np.flatnonzero(days_of(dataset) < dataset.days[0] + days)


def with_videos(dataset: Dataset, **columns: pa.Array) -> Dataset:
    videos = dataset.videos
    for name, values in columns.items():
        videos = videos.set_column(videos.column_names.index(name), name, values)
    return dataclasses.replace(dataset, videos=videos)


def test_it_holds_the_words_of_its_rows_alone(small_dataset: Dataset) -> None:
    rows = rows_until(small_dataset, 1)
    vocabulary = learn_vocabulary(small_dataset, rows)
    video = small_dataset.events["video"].take(rows)
    video_ids = np.array(small_dataset.videos["video_id"].to_pylist())
    assert set(vocabulary.videos) == set(video_ids[video])
    assert len(vocabulary.videos) < len(video_ids)
    authors = small_dataset.videos["author"].to_numpy()[video]
    known_authors = {small_dataset.author_ids[code] for code in authors if code}
    assert set(vocabulary.authors) == known_authors
    assert vocabulary.sizes["videos"] == len(vocabulary.videos) + 2


def test_a_video_seen_too_seldom_stays_unseen(small_dataset: Dataset) -> None:
    rows = rows_until(small_dataset, 5)
    views = np.bincount(small_dataset.events["video"].take(rows))
    vocabulary = learn_vocabulary(small_dataset, rows, min_views=20)
    assert 0 < len(vocabulary.videos) == (views >= 20).sum() < len(views)
    everyone = learn_vocabulary(small_dataset, rows, min_views=1)
    assert vocabulary.authors == everyone.authors, "what a video is made of is known all the same"


def test_what_comes_later_changes_nothing(small_dataset: Dataset) -> None:
    """Ids and surfaces of later events, and what is told of later videos and viewers."""
    rows = rows_until(small_dataset, 1)
    later = np.ones(small_dataset.num_events, dtype=bool)
    later[rows] = False
    dataset = with_events(small_dataset, surface=lambda codes: np.where(later, codes, 1))
    edited = with_events(
        dataset,
        video=lambda codes: np.where(later, 0, codes),
        surface=lambda codes: np.where(later, 1, codes),
    )
    edited = dataclasses.replace(
        edited,
        videos=told_otherwise(edited.videos, small_dataset.events["video"].take(rows)),
        viewers=told_otherwise(edited.viewers, small_dataset.events["viewer"].take(rows)),
    )
    assert learn_vocabulary(edited, rows) == learn_vocabulary(dataset, rows)
    everything = np.arange(dataset.num_events)
    before, after = (learn_vocabulary(each, everything) for each in (dataset, edited))
    for part in ("videos", "surfaces", "video_numbers", "viewer_numbers"):
        assert getattr(before, part) != getattr(after, part), part


def told_otherwise(table: pa.Table, met: NDArray[np.int32]) -> pa.Table:
    """Change the extras of everything in a catalogue that was not met."""
    unmet = np.ones(table.num_rows, dtype=bool)
    unmet[met] = False
    assert 0 < unmet.sum() < len(unmet)
    for name in [name for name in table.column_names if name.startswith("extra_")]:
        values = table[name].to_numpy()
        other = np.where(unmet, 1, values) if values.dtype.kind == "i" else values + 1e6 * unmet
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(other.astype(values.dtype)))
    return table


def test_every_known_word_has_its_place_and_all_others_are_unseen(small_dataset: Dataset) -> None:
    vocabulary = learn_vocabulary(small_dataset, rows_until(small_dataset, 1))
    catalogue = bind(vocabulary, small_dataset)
    video_ids = small_dataset.videos["video_id"].to_pylist()
    for code, video_id in enumerate(video_ids):
        if video_id in vocabulary.videos:
            assert catalogue.video[code] == FIRST + vocabulary.videos.index(video_id)
        else:
            assert catalogue.video[code] == UNSEEN
    author = small_dataset.videos["author"].to_numpy()
    assert (catalogue.author[author == 0] == 0).all()
    assert (catalogue.author[author > 0] > 0).all()
    np.testing.assert_array_equal(catalogue.author_code, author)
    assert catalogue.surface[0] == 0
    assert catalogue.surface.min(initial=9, where=np.arange(len(catalogue.surface)) > 0) >= UNSEEN


def test_the_same_words_mean_the_same_in_another_dataset(small_dataset: Dataset) -> None:
    """Codes are shuffled, words are not: every video keeps its index."""
    vocabulary = learn_vocabulary(small_dataset, rows_until(small_dataset, 3))
    order = np.random.default_rng(0).permutation(small_dataset.videos.num_rows)
    other = dataclasses.replace(small_dataset, videos=small_dataset.videos.take(order))
    here, there = bind(vocabulary, small_dataset), bind(vocabulary, other)
    for name in ("video", "author", "topics", "duration_bucket", "video_categories"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name)[order])
    np.testing.assert_array_equal(there.video_numbers, here.video_numbers[order])


def test_a_number_is_scaled_by_the_training_window(small_dataset: Dataset) -> None:
    """(sign(x) log(1 + |x|) - mean) / spread; 0 where missing."""
    rows = rows_until(small_dataset, 5)
    number = small_dataset.videos.num_rows
    values = np.arange(number, dtype=np.float32) - 10
    values[3] = np.nan
    dataset = with_videos(small_dataset, extra_title_length=pa.array(values))
    vocabulary = learn_vocabulary(dataset, rows)
    met = np.bincount(dataset.events["video"].take(rows), minlength=number) > 0
    logs = np.sign(values) * np.log1p(np.abs(values))
    mean, spread = np.nanmean(logs[met]), np.nanstd(logs[met])
    scale = vocabulary.video_numbers["title_length"]
    assert (scale.mean, scale.spread) == pytest.approx((mean, spread), rel=1e-6)
    expected = np.nan_to_num((logs - mean) / spread, nan=0.0)
    np.testing.assert_allclose(bind(vocabulary, dataset).video_numbers[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("value", [5.0, np.nan])
def test_a_number_that_never_varies_is_no_division_by_zero(
    small_dataset: Dataset, value: float
) -> None:
    column = pa.array(np.full(small_dataset.videos.num_rows, value, dtype=np.float32))
    dataset = with_videos(small_dataset, extra_title_length=column)
    vocabulary = learn_vocabulary(dataset, rows_until(dataset, 5))
    assert vocabulary.video_numbers["title_length"].spread == 1.0
    assert (np.abs(bind(vocabulary, dataset).video_numbers) < 1e-6).all()


def test_a_long_list_of_topics_is_cut(small_dataset: Dataset) -> None:
    lists: list[list[int]] = [[1, 2, 3, 4, 5, 6], [], *[[2]] * (small_dataset.videos.num_rows - 2)]
    dataset = with_videos(small_dataset, topics=pa.array(lists, pa.list_(pa.int32())))
    vocabulary = learn_vocabulary(dataset, np.arange(dataset.num_events))
    topics = bind(vocabulary, dataset).topics
    assert topics.shape[1] == TOPICS_AT_MOST
    assert (topics[0] >= FIRST).all()
    assert (topics[1] == 0).all()
    assert (topics[2] > 0).tolist() == [True, False, False, False]
    assert topics[2, 0] == topics[0, 1]


def test_it_comes_back_from_json(small_dataset: Dataset) -> None:
    vocabulary = learn_vocabulary(small_dataset, np.flatnonzero(timed_rows(small_dataset)))
    assert isinstance(vocabulary.video_numbers["title_length"], NumberScale)
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@pytest.mark.parametrize("part", ["videos", "surfaces", "video_numbers"])
def test_a_garbled_vocabulary_is_refused(small_dataset: Dataset, part: str) -> None:
    value = learn_vocabulary(small_dataset, rows_until(small_dataset, 1)).to_json()
    without = {name: words for name, words in value.items() if name != part}
    for garbled in (without, value | {part: 3}):
        with pytest.raises(RunError, match=r"lacks or garbles .*must be as .*train it again"):
            Vocabulary.from_json(garbled)


def test_a_dataset_without_an_extra_the_model_reads_is_refused(small_dataset: Dataset) -> None:
    vocabulary = learn_vocabulary(small_dataset, rows_until(small_dataset, 1))
    other = dataclasses.replace(
        small_dataset,
        videos=small_dataset.videos.drop_columns(["extra_title_length"]),
    )
    with pytest.raises(RunError, match=r"no extra column 'title_length', .*train again"):
        bind(vocabulary, other)


def test_an_extra_of_another_dataset_that_is_not_declared_is_refused(
    small_dataset: Dataset,
) -> None:
    """The column of a category is gone, and so is its declaration."""
    vocabulary = learn_vocabulary(small_dataset, rows_until(small_dataset, 1))
    description = {**small_dataset.description, "video_extras": []}
    other = dataclasses.replace(
        small_dataset,
        description=description,
        videos=small_dataset.videos.drop_columns(["extra_kind"]),
    )
    with pytest.raises(RunError, match=r"no extra column 'kind'"):
        bind(vocabulary, other)
