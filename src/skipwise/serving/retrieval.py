"""Which few of all videos are near a viewer: an index over the model's own vectors.

    BoundVideos, World  ->  Finder.build   ->  VideoIndex (faiss), swapped in by one assignment
    a viewer's vector   ->  Finder.nearest ->  codes, nearest first, without those already seen

- Near is what training taught: viewer . video + popularity as of the start of the day, so a vector
  holds popularity as its last number, and a new day asks for a new index (`stale`).
- A video that is posted, changed or taken off is in or out with the next request; one that may not
  be shown is never in.
- Lists are as many as the root of the videos; how many are searched is chosen where the index is
  built: until nine in ten of the really nearest are found for made-up viewers.
- The world's lock must be held to follow and to search; building holds it only to copy.

Reads `catalogue`, `world` and `model.retrieval`; is read by `models` and the pipeline.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.model.recommender import Recommender
from skipwise.model.video_vectors import retrieval_vectors
from skipwise.serving.catalogue import BoundVideos
from skipwise.serving.world import World

Codes = NDArray[np.int64]
Vectors = NDArray[np.float32]

ONE_LIST_BELOW = 5000
"""So few videos are searched whole."""
FOUND_AT_LEAST = 0.9
"""Recall of the index itself, among the nearest `_JUDGED_BY`."""
GROWN = 1.5
"""An index that has so many times the videos it was built with is built anew."""
_JUDGED_BY, _JUDGES = 200, 48
_PER_LIST = 40


@dataclass(slots=True)
class VideoIndex:
    """An index of the videos that may be shown."""

    index: Any
    day: int
    """Popularity is that of its start."""
    version: int
    """Of the catalogue, up to which it follows."""
    built_with: int
    searched_lists: int = 1
    found_share: float = 1.0
    """Measured recall of the index against a search of everything."""
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """By code."""

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def nearest(self, viewer: Vectors, number: int, without: Codes) -> Codes:
        """Return the codes of the nearest videos, at most `number`, nearest first."""
        if min(number, len(self)) <= 0:
            return np.empty(0, dtype=np.int64)
        # so many more than asked, and the seen ones left out afterwards: asking of each video that
        # is looked at whether it was seen made a search a fifth longer
        asked_for = min(number + len(without), len(self))
        options = faiss.SearchParametersIVF(nprobe=self.searched_lists)
        asked = np.append(viewer, np.float32(1.0)).astype(np.float32)[None]
        _, found = self.index.search(asked, asked_for, params=options)
        codes = np.asarray(found[0][found[0] >= 0], dtype=np.int64)
        return codes[~np.isin(codes, without)][:number] if len(without) else codes

    def put(self, codes: Codes, vectors: Vectors, eligible: NDArray[np.bool_]) -> None:
        """Write some videos; those not eligible are taken out."""
        lacking = int(codes.max(initial=-1)) + 1 - len(self.held)
        if lacking > 0:
            self.held = np.pad(self.held, (0, max(lacking, len(self.held) // 4)))
        there = codes[self.held[codes]]
        if len(there):
            self.index.remove_ids(there)
        if eligible.any():
            self.index.add_with_ids(np.ascontiguousarray(vectors[eligible]), codes[eligible])
        self.held[codes] = eligible


class Finder:
    """Finds videos for one model."""

    def __init__(self, model: Recommender, videos: BoundVideos, *, taught: bool) -> None:
        self.model, self.videos, self.taught = model, videos, taught
        self.index: VideoIndex | None = None
        self._building = threading.Lock()

    @property
    def problem(self) -> str | None:
        """Say why nothing is found; None where it can be."""
        if self.taught:
            return None
        return "this run's retrieval head was not taught: feeds find by popularity and freshness"

    def stale(self, day: int) -> bool:
        """Say whether an index should be built anew: a new day, or much has come in."""
        if not self.taught:
            return False
        index = self.index
        if index is None or day > index.day:
            return True
        return len(index) > max(GROWN * index.built_with, ONE_LIST_BELOW)

    def build(self, world: World, day: int) -> None:
        """Build an index of everything there is, and put it in place of the one there is.

        Args:
            world: What there is, and how popular.
            day: As of whose start popularity counts.
        """
        if not self.taught or not self._building.acquire(blocking=False):
            return  # somebody is at it
        try:
            self.index = self._built(world, day)
        finally:
            self._building.release()

    def follow(self, world: World) -> None:
        """Take in what was posted or changed since; the world's lock must be held."""
        if self.index is not None:
            self._follow(self.index, world)

    def nearest(self, viewer: Vectors, number: int, without: Codes) -> Codes:
        """Return the nearest videos' codes; none where there is no index."""
        if self.index is None:
            return np.empty(0, dtype=np.int64)
        return self.index.nearest(viewer, number, without)

    def _built(self, world: World, day: int) -> VideoIndex:
        with world.lock:
            self.videos.follow(world.catalogue)
            number, version = len(world.catalogue), world.catalogue.version
            codes = np.flatnonzero(world.catalogue.eligible[:number])
            bound = self.videos.vectors[codes]
            counts = world.popularity.as_of(day, codes)
        vectors = self._vectors(bound, counts)
        made = VideoIndex(index=_trained(vectors), day=day, version=version, built_with=len(codes))
        made.put(codes, vectors, np.ones(len(codes), dtype=np.bool_))
        _choose_lists(made, vectors, self.model.settings.retrieval.width)
        with world.lock:
            self._follow(made, world)
        return made

    def _follow(self, index: VideoIndex, world: World) -> None:
        codes = world.catalogue.changed_since(index.version)
        if not len(codes):
            return
        self.videos.follow(world.catalogue)
        counts = world.popularity.as_of(index.day, codes)
        vectors = self._vectors(self.videos.vectors[codes], counts)
        index.put(codes, vectors, world.catalogue.eligible[codes])
        index.version = world.catalogue.version

    def _vectors(self, bound: Vectors, counts: Vectors) -> Vectors:
        with torch.no_grad():
            popular = self.model.retrieval.popular(torch.from_numpy(counts)).numpy()
        made = np.append(retrieval_vectors(self.model, bound), popular[:, None], 1)
        return np.ascontiguousarray(made, dtype=np.float32)


def _trained(vectors: Vectors) -> Any:
    """Return an empty index whose lists suit some vectors."""
    number, width = vectors.shape
    lists = 1 if number < ONE_LIST_BELOW else int(number**0.5)
    faiss.omp_set_num_threads(1)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    sample = vectors[:: max(1, number // (_PER_LIST * lists))]
    index.train(sample if number else np.zeros((1, width), dtype=np.float32))
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    return index


def _choose_lists(made: VideoIndex, vectors: Vectors, learnt: int) -> None:
    """Search as many lists as find FOUND_AT_LEAST of the nearest, for made-up viewers."""
    if made.index.nlist == 1:
        return
    viewers = _made_up_viewers(vectors, learnt)
    nearest = np.argpartition(-(viewers @ vectors.T), _JUDGED_BY, axis=1)[:, :_JUDGED_BY]
    codes = np.flatnonzero(made.held)
    lists = max(1, made.index.nlist // 32)
    while True:
        options = faiss.SearchParametersIVF(nprobe=lists)
        _, found = made.index.search(viewers, _JUDGED_BY, params=options)
        made.found_share = float(
            np.mean([np.isin(codes[a], b).mean() for a, b in zip(nearest, found, strict=True)])
        )
        made.searched_lists = lists
        if made.found_share >= FOUND_AT_LEAST or lists == made.index.nlist:
            return
        lists = min(2 * lists, made.index.nlist)


def _made_up_viewers(vectors: Vectors, learnt: int) -> Vectors:
    """Make viewers who watched ten of the popular videos each, with any learnt part."""
    random = np.random.default_rng(0)
    chance = np.exp(vectors[:, -1] - vectors[:, -1].max())
    watched = random.choice(len(vectors), (_JUDGES, 10), p=chance / chance.sum())
    viewers = vectors[watched].sum(1) / np.sqrt(10)
    others = vectors[random.choice(len(vectors), _JUDGES), :learnt]
    viewers[:, :learnt] = others / np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-6)
    viewers[:, -1] = 1.0
    return np.ascontiguousarray(viewers, dtype=np.float32)
