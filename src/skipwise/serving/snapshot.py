"""The state that is nobody's own, as one document: so that a start need not replay everything.

    World  ->  pack_world  ->  bytes  ->  restore_world  ->  the same World, at the same cursor

- Under names, not codes: it can be read into a catalogue of other codes.
- safetensors, so that reading it runs nothing.

Reads `world`; is read by `seed` and `app`.
"""

import json
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from skipwise.errors import StateError
from skipwise.serving.catalogue import VideoFacts
from skipwise.serving.crowd import Tallies
from skipwise.serving.names import name_of
from skipwise.serving.world import World

WORLD_DOCUMENT = "world"
Arrays = dict[str, NDArray[Any]]
_RECENT = ("day", "name", "bucket", "bin")
"""Watches of the last days: `watched.*` with how often; `recent.*`, as once was, a row each."""


def pack_world(world: World) -> bytes:
    """Return everything that the log up to `world.cursor` has said."""
    with world.lock:
        crowd, catalogue = world.crowd, world.catalogue
        authors = np.array([name_of(word) for word in catalogue.author_ids], dtype=np.uint64)
        topics = np.array([name_of(word) for word in catalogue.topic_words], dtype=np.uint64)
        videos = catalogue.name[: len(catalogue)]
        arrays = {
            **_packed("video", videos, crowd.videos),
            **_packed("author", authors, crowd.authors),
            **_packed("topic", topics, crowd.topics),
            **_packed("negative", videos, world.negatives),
            **_popular(world),
            "bucket_watches": crowd.bucket_watches,
            **_recent(world),
        }
        watched = np.flatnonzero(crowd.watches[: len(videos)].any(1))
        arrays["watches.name"], arrays["watches.counts"] = videos[watched], crowd.watches[watched]
        facts = [_facts(world, code) for code in range(world.num_given, len(catalogue))]
        arrays["facts"] = np.frombuffer(msgspec.msgpack.encode(facts), dtype=np.uint8)
        about = {"cursor": world.cursor, "day": crowd.day, "num_sums": world.rules.num_sums}
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def restore_world(world: World, data: bytes) -> None:
    """Put a snapshot into a world that has followed nothing yet.

    Raises:
        StateError: It counts other objectives than the model.
    """
    arrays = load(data)
    about = json.loads(arrays["about"].tobytes())
    if about["num_sums"] != world.rules.num_sums:
        raise StateError(
            f"the state counts {about['num_sums']} sums per key, must be {world.rules.num_sums} as "
            "in the model. It was kept for another model: start with a new --state."
        )
    catalogue, crowd = world.catalogue, world.crowd
    for facts in msgspec.msgpack.decode(arrays["facts"].tobytes(), type=list[VideoFacts]):
        catalogue.put(facts)
    world.grow()
    authors = {name_of(word): code for code, word in enumerate(catalogue.author_ids)}
    topics = {name_of(word): code for code, word in enumerate(catalogue.topic_words)}
    _unpack(arrays, "video", crowd.videos, catalogue.codes(arrays["video.name"]))
    _unpack(arrays, "negative", world.negatives, catalogue.codes(arrays["negative.name"]))
    for part, codes, tallies in (
        ("author", authors, crowd.authors),
        ("topic", topics, crowd.topics),
    ):
        found = np.array([codes.get(name, -1) for name in arrays[f"{part}.name"].tolist()])
        _unpack(arrays, part, tallies, found.astype(np.int64))
    if "popular.name" in arrays:  # not in a state of before there was retrieval
        popular = catalogue.codes(arrays["popular.name"])
        world.popularity.restore(popular, arrays["popular.held"], int(arrays["popular.day"][0]))
    crowd.watches[catalogue.codes(arrays["watches.name"])] = arrays["watches.counts"]
    crowd.bucket_watches[:] = arrays["bucket_watches"]
    crowd.day = about["day"]
    _restore_recent(world, arrays)
    world.cursor = about["cursor"]


def _packed(part: str, names: NDArray[np.uint64], tallies: Tallies) -> Arrays:
    held = np.flatnonzero(tallies.sums[: len(names)].any(1) & (names > 0))
    return {
        f"{part}.name": names[held],
        f"{part}.day": tallies.day[held],
        f"{part}.sums": tallies.sums[held],
    }


def _popular(world: World) -> Arrays:
    held, names = world.popularity.held(), world.catalogue.name[: len(world.catalogue)]
    here = np.flatnonzero(held[: len(names)].any(1) & (names > 0))
    return {
        "popular.name": names[here],
        "popular.held": held[here],
        "popular.day": np.array([world.popularity.day]),
    }


def _unpack(arrays: Arrays, part: str, tallies: Tallies, codes: NDArray[np.int64]) -> None:
    here = codes >= 0
    tallies.day[codes[here]] = arrays[f"{part}.day"][here]
    tallies.sums[codes[here]] = arrays[f"{part}.sums"][here]


def _recent(world: World) -> Arrays:
    days = [(day, *watches.counted()) for day, watches in sorted(world.crowd.recent.items())]
    columns = [
        (np.full(len(video), day), world.catalogue.name[video], bucket, watch_bin, count)
        for day, video, bucket, watch_bin, count in days
    ]
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.uint64), *[np.zeros(0, np.int64)] * 3)
    return {
        f"watched.{part}": np.concatenate(arrays)
        for part, *arrays in zip((*_RECENT, "count"), nothing, *columns, strict=True)
    }


def _restore_recent(world: World, arrays: Arrays) -> None:
    kind = "watched" if "watched.day" in arrays else "recent"
    day, name, bucket, watch_bin = (arrays[f"{kind}.{part}"] for part in _RECENT)
    count = arrays.get("watched.count", np.ones(len(day), dtype=np.int64))
    video = world.catalogue.codes(name)
    for each in np.unique(day).tolist():
        here = day == each
        world.crowd.recent[each].add_all(video[here], bucket[here], watch_bin[here], count[here])


def _facts(world: World, code: int) -> VideoFacts:
    catalogue = world.catalogue
    seconds, uploaded = float(catalogue.duration_s[code]), int(catalogue.uploaded_at_ms[code])
    return VideoFacts(
        video_id=catalogue.video_ids[code],
        author_id=catalogue.author_ids[catalogue.author[code]] or None,
        topics=tuple(catalogue.topic_words[topic] for topic in catalogue.topic_codes(code)),
        duration_ms=None if np.isnan(seconds) else round(seconds * 1000),
        uploaded_at_ms=None if uploaded < 0 else uploaded,
        eligible=bool(catalogue.eligible[code]),
        extras=dict(catalogue.extras.get(code, {})),
    )
