"""Which videos there are now: those of the dataset, those posted since, and strangers.

    Dataset               ->  LiveCatalogue.of_dataset  ->  a code for every video, author, topic
    VideoFacts            ->  LiveCatalogue.put         ->  rankable from now on
    Vocabulary, Recommender, LiveCatalogue  ->  BoundVideos  ->  vectors and indices, row = code

- Codes are this process's own and only grow. A video nobody has named has one of a few codes that
  say "unseen" and no more, chosen by its name.
- A catalogue knows no model; what a model makes of it is `BoundVideos`, one per model.

Reads `features.vocabulary` and `model.video_vectors`; is read by `rows`, `models` and the pipeline.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset
from skipwise.features.known import DAY_MS
from skipwise.features.vocabulary import FIRST, TOPICS_AT_MOST, UNSEEN, Catalogue, Vocabulary
from skipwise.labels.watch import LabelConfig, duration_bucket
from skipwise.model.recommender import Recommender
from skipwise.model.video_vectors import embed_all, vector_width
from skipwise.serving.code_table import CodeTable
from skipwise.serving.names import Names, name_of
from skipwise.serving.past import key_of

STRANGERS = 1024
"""Codes for videos that are in no catalogue; the first ones."""
_CHUNK = 1024


Id = Annotated[str, Meta(min_length=1, max_length=128)]
Milliseconds = Annotated[int, Meta(ge=10**11, le=10**14, description="UTC, ms since 1970")]
"""1973 to 5138; an earlier time is in seconds."""
Length = Annotated[int, Meta(ge=1, le=7 * 86_400_000, description="ms")]
Words = Annotated[str, Meta(max_length=20_000)]
"""What a person reads, and nothing is learnt from."""
Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class VideoFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of a video; one of the body of `PUT /v1/videos`."""

    video_id: Id
    author_id: Id | None = None
    topics: Annotated[tuple[Id, ...], Meta(max_length=20)] = ()
    duration_ms: Length | None = None
    uploaded_at_ms: Milliseconds | None = None
    eligible: bool = True
    title: Words | None = None
    author_name: Words | None = None
    extras: Annotated[dict[Id, Id | float | Whole | bool | None], Meta(max_length=100)] = {}


class LiveCatalogue:
    """Videos in codes; rows of arrays are codes."""

    def __init__(self, labels: LabelConfig, facts: Sequence[VideoFacts] = ()) -> None:
        self.labels = labels
        self.video_ids: list[str] = [""] * STRANGERS
        self.extras: dict[int, Mapping[str, Any]] = {}
        self.words: dict[int, tuple[str | None, str | None]] = {}
        """Title and author's name, of the codes that have one."""
        self._code_of: dict[int, int] = {}
        self._code_of_id: dict[str, int] = {}
        self._named, self._hashed = CodeTable(), CodeTable()
        """Of names, and of what this process hashes ids to: the two dictionaries, for many."""
        self._author_of: dict[str, int] = {}
        self._topic_of: dict[str, int] = {}
        self.author_ids, self.topic_words = [""], [""]
        size = STRANGERS
        self.name = np.zeros(size, dtype=np.uint64)
        self.author = np.zeros(size, dtype=np.int64)
        self.author_name = np.zeros(size, dtype=np.uint64)
        self.topics = np.zeros((size, 1), dtype=np.int64)
        self.topic_names = np.zeros((size, 1), dtype=np.uint64)
        self.keys = np.zeros((size, 3), dtype=np.uint64)
        """Keys of a viewer's own sums (`past`): of the video, its author, its topics; 0 = none."""
        self.duration_s = np.full(size, np.nan, dtype=np.float32)
        self.duration_bucket = np.zeros(size, dtype=np.int64)
        self.uploaded_at_ms = np.full(size, -1, dtype=np.int64)
        self.eligible = np.zeros(size, dtype=bool)
        self.version = 0
        """Grows with every change; whoever has seen a version can ask for what changed since."""
        self.changed_at = np.zeros(size, dtype=np.int64)
        """The version in which each video was last written."""
        self.given_version = 0
        """The version that was the dataset's own."""
        for each in facts:
            self.put(each)

    @classmethod
    def of_dataset(cls, labels: LabelConfig, dataset: Dataset) -> "LiveCatalogue":
        """Take over a dataset's catalogue: its video code c becomes STRANGERS + c."""
        catalogue = cls(labels)
        topics = dataset.description["topics"]
        videos = dataset.videos
        columns = zip(
            videos["video_id"].to_pylist(),
            videos["author"].to_pylist(),
            videos["topics"].to_pylist(),
            videos["duration_s"].to_pylist(),
            videos["uploaded_day"].to_pylist(),
            strict=True,
        )
        for video_id, author, codes, seconds, day in columns:
            catalogue.put(
                VideoFacts(
                    video_id=video_id,
                    author_id=dataset.author_ids[author] or None,
                    topics=tuple(topics[code - 1] for code in codes),
                    duration_ms=None if math.isnan(seconds) else round(seconds * 1000),
                    uploaded_at_ms=day * DAY_MS if day >= 0 else None,
                )
            )
        catalogue.given_version = catalogue.version
        return catalogue

    def __len__(self) -> int:
        return len(self.video_ids)

    @property
    def num_authors(self) -> int:
        """How many author codes there are, 0 included."""
        return len(self.author_ids)

    @property
    def num_topics(self) -> int:
        """How many topic codes there are, 0 included."""
        return len(self.topic_words)

    def put(self, facts: VideoFacts) -> int:
        """Add a video, or change what is known of it; returns its code."""
        name = name_of(facts.video_id)
        code = self._code_of.get(name)
        if code is None:
            code = self._code_of[name] = len(self.video_ids)
            self.video_ids.append(facts.video_id)
            self._code_of_id[facts.video_id] = code
            if code >= len(self.name):
                self._grow()
            self.name[code] = name
            self._named.put(int(self._names()[code]), code, self._names)
            self._hashed.put(hash(facts.video_id), code, lambda: _hashes(self.video_ids))
        self._write(code, facts)
        return code

    def code(self, video_id: str) -> int:
        """Return a video's code; one of the strangers' where it is in no catalogue."""
        found = self._code_of_id.get(video_id)
        return name_of(video_id) % STRANGERS if found is None else found

    def codes_of(self, video_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the codes of videos by their ids, (N,); `code` of each."""
        found = self._hashed.find(_hashes(video_ids))
        for place in np.flatnonzero(found < 0).tolist():
            found[place] = self.code(video_ids[place])
        return found

    def codes(self, names: Names) -> NDArray[np.int64]:
        """Return the codes of named videos, (N,)."""
        found = self._named.find(names.view(np.int64))
        for place in np.flatnonzero(found < 0).tolist():
            found[place] = self._code(int(names[place]))
        return found

    def changed_since(self, version: int) -> NDArray[np.int64]:
        """Return the codes written after a version, oldest change first."""
        if version == self.version:
            return np.empty(0, dtype=np.int64)
        changed_at = self.changed_at[: len(self)]
        codes = np.flatnonzero(changed_at > version)
        return codes[np.argsort(changed_at[codes])]

    def knows(self, video_id: str) -> bool:
        """Say whether a video is in the catalogue."""
        return video_id in self._code_of_id

    def dated(self, facts: VideoFacts, now_ms: int) -> VideoFacts:
        """Return the facts with an upload time: theirs, the one held, or now."""
        if facts.uploaded_at_ms is not None:
            return facts
        code = self._code_of_id.get(facts.video_id)
        held_ms = -1 if code is None else int(self.uploaded_at_ms[code])
        return msgspec.structs.replace(facts, uploaded_at_ms=held_ms if held_ms >= 0 else now_ms)

    def topic_codes(self, code: int) -> tuple[int, ...]:
        """Return the distinct topics of a video."""
        return tuple(topic for topic in self.topics[code].tolist() if topic)

    def _names(self) -> NDArray[np.int64]:
        return self.name[: len(self)].view(np.int64)

    def _code(self, name: int) -> int:
        found = self._code_of.get(name)
        return name % STRANGERS if found is None else found

    def _write(self, code: int, facts: VideoFacts) -> None:
        author = facts.author_id or ""
        self.author_name[code] = name_of(author)
        self.author[code] = _number(self._author_of, self.author_ids, author) if author else 0
        topics = sorted(set(facts.topics))
        if len(topics) > self.topics.shape[1]:
            self._widen(len(topics))
        self.topics[code], self.topic_names[code] = 0, 0
        for place, topic in enumerate(topics):
            self.topics[code, place] = _number(self._topic_of, self.topic_words, topic)
            self.topic_names[code, place] = name_of(topic)
        self.keys[code] = 0
        self.keys[code, : 2 + len(topics)] = [
            key_of("viewer_video", int(self.name[code])),
            key_of("viewer_author", name_of(author)),
            *(key_of("viewer_topic", name_of(topic)) for topic in topics),
        ]
        seconds = np.nan if not facts.duration_ms else facts.duration_ms / 1000
        self.duration_s[code] = seconds
        self.duration_bucket[code] = duration_bucket(np.array([seconds]), self.labels)[0]
        self.uploaded_at_ms[code] = -1 if facts.uploaded_at_ms is None else facts.uploaded_at_ms
        self.eligible[code] = facts.eligible
        if facts.extras:
            self.extras[code] = facts.extras
        self.words.pop(code, None)
        if facts.title or facts.author_name:
            self.words[code] = facts.title, facts.author_name
        self.version += 1
        self.changed_at[code] = self.version

    def _grow(self) -> None:
        room = max(_CHUNK, len(self.name) // 2)

        def more(values: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([values, np.zeros((room, *values.shape[1:]), values.dtype)])

        for column in _COLUMNS:
            setattr(self, column, more(getattr(self, column)))

    def _widen(self, topics: int) -> None:
        lacking = topics - self.topics.shape[1]
        self.topics = np.pad(self.topics, ((0, 0), (0, lacking)))
        self.topic_names = np.pad(self.topic_names, ((0, 0), (0, lacking)))
        self.keys = np.pad(self.keys, ((0, 0), (0, lacking)))


_COLUMNS = (
    "name",
    "author",
    "author_name",
    "topics",
    "topic_names",
    "keys",
    "duration_s",
    "duration_bucket",
    "uploaded_at_ms",
    "eligible",
    "changed_at",
)


class BoundVideos:
    """A catalogue as one model reads it; row = code of the catalogue."""

    def __init__(
        self,
        model: Recommender,
        vocabulary: Vocabulary,
        catalogue: LiveCatalogue,
        prepared: Catalogue | None,
    ) -> None:
        """Bind strangers and the dataset's videos; `follow` binds the rest.

        Args:
            model: Makes the vectors.
            vocabulary: The words it knows.
            catalogue: What there is.
            prepared: The dataset's catalogue, bound: rows of the codes after the strangers'.
        """
        self.model, self.vocabulary = model, vocabulary
        self._video_ix = _indices(vocabulary.videos)
        self._author_ix = _indices(vocabulary.authors)
        self._topic_ix = _indices(vocabulary.topics)
        self.surface_ix = {
            0: 0,
            **{name_of(w): ix for w, ix in _indices(vocabulary.surfaces).items()},
        }
        """Index by the surface's name; 0 is no surface."""
        self._category_ix = [_indices(words) for words in vocabulary.video_categories.values()]
        width = vector_width(model)
        self.vectors = np.zeros((0, width), dtype=np.float32)
        self.topics = np.zeros((0, TOPICS_AT_MOST), dtype=np.int64)
        self.version = 0
        """Of the catalogue, up to which it is bound."""
        self._bind(np.arange(STRANGERS), self._rows(catalogue, np.arange(STRANGERS)))
        if prepared is not None:
            self._bind(STRANGERS + np.arange(len(prepared.video)), prepared)
            self.version = catalogue.given_version

    def follow(self, catalogue: LiveCatalogue, at_most: int | None = None) -> None:
        """Bind what has been posted or changed since; of much, the oldest changes."""
        codes = catalogue.changed_since(self.version)[:at_most]
        if len(codes):
            self._bind(codes, self._rows(catalogue, codes))
            self.version = int(catalogue.changed_at[codes[-1]])

    def _bind(self, codes: NDArray[np.int64], rows: Catalogue) -> None:
        lacking = int(codes.max(initial=-1)) + 1 - len(self.vectors)
        if lacking > 0:
            room = max(lacking, len(self.vectors) // 4)
            self.vectors = _longer(self.vectors, room)
            self.topics = _longer(self.topics, room)
        self.vectors[codes] = embed_all(self.model, rows)
        self.topics[codes] = rows.topics

    def _rows(self, catalogue: LiveCatalogue, codes: NDArray[np.int64]) -> Catalogue:
        """Bind some codes from their words; strangers are unseen in all they have."""
        video = np.array([self._known(catalogue, code) for code in codes.tolist()], dtype=np.int64)
        author = np.array(
            [self._author(catalogue, code) for code in codes.tolist()], dtype=np.int64
        )
        topics = np.zeros((len(codes), TOPICS_AT_MOST), dtype=np.int64)
        for row, code in enumerate(codes.tolist()):
            for place, topic in enumerate(catalogue.topic_codes(code)[:TOPICS_AT_MOST]):
                topics[row, place] = self._topic_ix.get(catalogue.topic_words[topic], UNSEEN)
        return Catalogue(
            video=video,
            author=author,
            author_code=catalogue.author[codes],
            topics=topics,
            duration_bucket=catalogue.duration_bucket[codes],
            video_categories=self._categories(catalogue, codes),
            video_numbers=self._numbers(catalogue, codes),
            viewer_categories=np.zeros((0, 0), dtype=np.int64),
            viewer_numbers=np.zeros((0, 0), dtype=np.float32),
            surface=np.zeros(0, dtype=np.int64),
        )

    def _known(self, catalogue: LiveCatalogue, code: int) -> int:
        return self._video_ix.get(catalogue.video_ids[code], UNSEEN)

    def _author(self, catalogue: LiveCatalogue, code: int) -> int:
        if not catalogue.author[code]:
            return 0
        return self._author_ix.get(catalogue.author_ids[catalogue.author[code]], UNSEEN)

    def _categories(self, catalogue: LiveCatalogue, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        bound = np.zeros((len(codes), len(self._category_ix)), dtype=np.int64)
        for row, code in enumerate(codes.tolist()):
            extras = catalogue.extras.get(code, {})
            for place, name in enumerate(self.vocabulary.video_categories):
                value = extras.get(name)
                if value is not None:
                    bound[row, place] = self._category_ix[place].get(str(value), UNSEEN)
        return bound

    def _numbers(self, catalogue: LiveCatalogue, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        bound = np.zeros((len(codes), len(self.vocabulary.video_numbers)), dtype=np.float32)
        for row, code in enumerate(codes.tolist()):
            extras = catalogue.extras.get(code, {})
            for place, (name, scale) in enumerate(self.vocabulary.video_numbers.items()):
                value = extras.get(name)
                if isinstance(value, int | float):
                    logged = np.sign(value) * np.log1p(abs(value))
                    bound[row, place] = (logged - scale.mean) / scale.spread
        return bound


def _indices(words: Sequence[str]) -> dict[str, int]:
    return {word: FIRST + place for place, word in enumerate(words)}


def _hashes(words: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, words), dtype=np.int64, count=len(words))


def _number(codes: dict[str, int], words: list[str], word: str) -> int:
    if word not in codes:
        codes[word] = len(words)
        words.append(word)
    return codes[word]


def _longer(values: NDArray[Any], room: int) -> NDArray[Any]:
    return np.concatenate([values, np.zeros((room, *values.shape[1:]), values.dtype)])
