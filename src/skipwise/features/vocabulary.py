"""Which videos, authors, topics, surfaces and extra values a model knows.

    Dataset, training rows   ->  learn_vocabulary  ->  Vocabulary (words, no codes)
    Vocabulary, any Dataset  ->  bind              ->  Catalogue (an index for every code)

- Made from the training window alone: what appears later is 1 = unseen; 0 = padding or missing.
- It holds words, not codes, so that a model reads another dataset of the same source.

Reads `dataset`; is read by training, evaluation and serving. No torch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.labels.watch import duration_bucket

UNSEEN = 1
FIRST = 2
TOPICS_AT_MOST = 4

Codes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberScale:
    """How a numeric extra is brought to a common scale: (sign log1p - mean) / spread."""

    mean: float
    spread: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The words a model knows; place p has index p + 2."""

    videos: tuple[str, ...]
    authors: tuple[str, ...]
    topics: tuple[str, ...]
    surfaces: tuple[str, ...]
    video_categories: Mapping[str, tuple[str, ...]]
    video_numbers: Mapping[str, NumberScale]
    viewer_categories: Mapping[str, tuple[str, ...]]
    viewer_numbers: Mapping[str, NumberScale]

    @property
    def sizes(self) -> dict[str, int]:
        """Rows each embedding table needs, padding and unseen included."""
        return {
            "videos": len(self.videos) + FIRST,
            "authors": len(self.authors) + FIRST,
            "topics": len(self.topics) + FIRST,
            "surfaces": len(self.surfaces) + FIRST,
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Vocabulary":
        """Rebuild from `to_json`.

        Raises:
            RunError: A part is missing.
        """
        try:
            return cls(
                videos=tuple(value["videos"]),
                authors=tuple(value["authors"]),
                topics=tuple(value["topics"]),
                surfaces=tuple(value["surfaces"]),
                video_categories=_words(value["video_categories"]),
                video_numbers=_number_scales(value["video_numbers"]),
                viewer_categories=_words(value["viewer_categories"]),
                viewer_numbers=_number_scales(value["viewer_numbers"]),
            )
        except (KeyError, TypeError, AttributeError) as problem:
            raise RunError(
                f"the vocabulary lacks or garbles {problem}; it must be as training wrote it. "
                "The run is damaged: train it again."
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """A dataset's catalogue in a model's indices; row = code."""

    video: Codes
    """(V,)"""
    author: Codes
    """(V,)"""
    author_code: Codes
    """(V,) the dataset's own codes, 0 unknown."""
    topics: Codes
    """(V, topics_at_most), 0 = none."""
    duration_bucket: Codes
    """(V,) 0 unknown."""
    video_categories: Codes
    """(V, categorical extras)"""
    video_numbers: NDArray[np.float32]
    """(V, numeric extras), scaled; 0 where missing."""
    viewer_categories: Codes
    """(viewers, categorical extras)"""
    viewer_numbers: NDArray[np.float32]
    """(viewers, numeric extras)"""
    surface: Codes
    """(surface codes,)"""


def learn_vocabulary(dataset: Dataset, rows: Codes, *, min_views: int = 1) -> Vocabulary:
    """Collect the words of the training window.

    Args:
        dataset: Where the rows lie.
        rows: (N,) event rows a model may learn from, its past events included.
        min_views: A video seen less often stays unseen: its content speaks for it.

    Returns:
        The vocabulary, words in code order.
    """
    views = np.bincount(dataset.events["video"].take(rows), minlength=dataset.videos.num_rows)
    known = views >= max(min_views, 1)
    met = views > 0
    viewers = np.unique(dataset.events["viewer"].take(rows))
    authors = np.unique(dataset.videos["author"].to_numpy()[met])
    topics = _topic_matrix(dataset.videos)[met]
    surfaces = np.unique(dataset.events["surface"].take(rows))
    description = dataset.description
    return Vocabulary(
        videos=tuple(dataset.videos["video_id"].filter(pa.array(known)).to_pylist()),
        authors=tuple(dataset.author_ids[code] for code in authors if code > 0),
        topics=tuple(description["topics"][code - 1] for code in np.unique(topics) if code > 0),
        surfaces=tuple(description["surfaces"][code - 1] for code in surfaces if code > 0),
        video_categories=_categories(description["video_extras"], dataset.videos, met),
        video_numbers=_scales(description["video_extras"], dataset.videos, met),
        viewer_categories=_categories(description["viewer_extras"], dataset.viewers, viewers),
        viewer_numbers=_scales(description["viewer_extras"], dataset.viewers, viewers),
    )


def bind(vocabulary: Vocabulary, dataset: Dataset) -> Catalogue:
    """Give every code of a dataset its index in a vocabulary.

    Raises:
        RunError: The dataset lacks an extra column the model reads.
    """
    description, videos, viewers = dataset.description, dataset.videos, dataset.viewers
    author_ix = _indices(vocabulary.authors, dataset.author_ids[1:])
    topic_ix = _indices(vocabulary.topics, description["topics"])
    return Catalogue(
        video=_indices(vocabulary.videos, videos["video_id"].to_pylist())[1:],
        author=author_ix[videos["author"].to_numpy()],
        author_code=videos["author"].to_numpy().astype(np.int64),
        topics=topic_ix[_topic_matrix(videos)],
        duration_bucket=duration_bucket(
            videos["duration_s"].to_numpy().astype(np.float64), dataset.label_config
        ).astype(np.int64),
        video_categories=_bound_categories(
            vocabulary.video_categories, description["video_extras"], videos
        ),
        video_numbers=_bound_numbers(vocabulary.video_numbers, videos),
        viewer_categories=_bound_categories(
            vocabulary.viewer_categories, description["viewer_extras"], viewers
        ),
        viewer_numbers=_bound_numbers(vocabulary.viewer_numbers, viewers),
        surface=_indices(vocabulary.surfaces, description["surfaces"]),
    )


def _words(value: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(words) for name, words in value.items()}


def _number_scales(value: Mapping[str, Any]) -> dict[str, NumberScale]:
    return {name: NumberScale(**scale) for name, scale in value.items()}


def _indices(words: Sequence[str], asked: Sequence[str]) -> Codes:
    """Return (1 + asked,) indices: 0 for missing, then each asked word's, 1 where unseen."""
    place = {word: FIRST + number for number, word in enumerate(words)}
    return np.array([0, *(place.get(word, UNSEEN) for word in asked)], dtype=np.int64)


def _topic_matrix(videos: pa.Table) -> Codes:
    """Return (V, TOPICS_AT_MOST) topic codes, 0 = none; a longer list is cut."""
    lists = videos["topics"].combine_chunks()
    lengths = np.minimum(pc.fill_null(pc.list_value_length(lists), 0), TOPICS_AT_MOST)
    matrix = np.zeros((videos.num_rows, TOPICS_AT_MOST), dtype=np.int64)
    for row in np.flatnonzero(lengths):
        codes = lists[int(row)].as_py()[:TOPICS_AT_MOST]
        matrix[row, : len(codes)] = codes
    return matrix


def _categories(
    extras: Sequence[Mapping[str, Any]], table: pa.Table, chosen: NDArray[Any]
) -> dict[str, tuple[str, ...]]:
    known = {}
    for extra in extras:
        if extra["kind"] == "categorical":
            codes = np.unique(table[f"extra_{extra['name']}"].to_numpy()[chosen])
            known[extra["name"]] = tuple(
                extra["categories"][code - 1] for code in codes if code > 0
            )
    return known


def _scales(
    extras: Sequence[Mapping[str, Any]], table: pa.Table, chosen: NDArray[Any]
) -> dict[str, NumberScale]:
    scales = {}
    for extra in extras:
        if extra["kind"] == "numeric":
            values = _signed_log(table[f"extra_{extra['name']}"].to_numpy()[chosen])
            values = values[~np.isnan(values)]
            spread = float(values.std()) if len(values) else 0.0
            scales[extra["name"]] = NumberScale(
                mean=float(values.mean()) if len(values) else 0.0,
                spread=spread if spread > 1e-6 else 1.0,
            )
    return scales


def _bound_categories(
    known: Mapping[str, tuple[str, ...]], extras: Sequence[Mapping[str, Any]], table: pa.Table
) -> Codes:
    values = {extra["name"]: extra.get("categories", ()) for extra in extras}
    kinds = {extra["name"]: extra["kind"] for extra in extras}
    bound = np.zeros((table.num_rows, len(known)), dtype=np.int64)
    for place, (name, words) in enumerate(known.items()):
        if kinds.get(name, "categorical") != "categorical":
            raise RunError(
                f"the extra column {name!r} is {kinds[name]} in the dataset, must be categorical "
                "as in training. Declare it so and prepare again."
            )
        codes = _extra(table, name).astype(np.int64)
        bound[:, place] = _indices(words, values[name])[codes]
    return bound


def _bound_numbers(scales: Mapping[str, NumberScale], table: pa.Table) -> NDArray[np.float32]:
    bound = np.zeros((table.num_rows, len(scales)), dtype=np.float32)
    for place, (name, scale) in enumerate(scales.items()):
        scaled = (_signed_log(_extra(table, name)) - scale.mean) / scale.spread
        bound[:, place] = np.nan_to_num(scaled, nan=0.0)
    return bound


def _extra(table: pa.Table, name: str) -> NDArray[Any]:
    column = f"extra_{name}"
    if column not in table.column_names:
        raise RunError(
            f"the dataset has no extra column {name!r}, which the model reads. "
            "Evaluate on a dataset prepared from the same source, or train again."
        )
    values: NDArray[Any] = table[column].to_numpy()
    return values


def _signed_log(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    return np.asarray(np.sign(numbers) * np.log1p(np.abs(numbers)))
