"""The canonical tables of docs/design.md, from a simulated world.

    Exposures, Outcomes, Videos, Viewers, Truth  ->  *_table  ->  pyarrow tables

- Column order and types are the design's; `clicked`, `long_viewed` and `variant` are null, as this
  source gives no verdicts of its own and runs no experiment.
- Ids are strings that tell the kind: `u12`, `v7`, `a3`; requests are `r5`. Topics are words, so
  that a person sees at once what a feed is about.

Knows `events.schema`, `exposure`, `odds`, `population`, `watching`, `world`; is read by `log`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skipwise.events.schema import ExtraColumn, SourceDescription
from skipwise.simulation.exposure import Exposures
from skipwise.simulation.habits import Habits
from skipwise.simulation.odds import PART_NAMES
from skipwise.simulation.population import AGE_GROUPS, KINDS, Integers, Videos, Viewers
from skipwise.simulation.watching import FLAG_NAMES, Outcomes, Truth
from skipwise.simulation.world import DAY_MS, TIME_ZONE, UTC_OFFSET_MS

TOPIC_WORDS = (
    "pets", "cooking", "football", "comedy", "travel", "music", "dance", "science", "gardening",
    "gaming", "fashion", "cars", "history", "fitness", "painting", "space", "street food",
    "magic", "nature", "news",
)  # fmt: skip
"""What the first topics are called; later ones are `t20`, `t21`, ..."""


def describe_source() -> SourceDescription:
    """Say what the tables alone do not: the time zone and the extra columns."""
    return SourceDescription(
        name="simulated",
        time_zone=TIME_ZONE,
        viewer_extras=(
            ExtraColumn("age_group", "categorical"),
            ExtraColumn("num_followed", "numeric"),
        ),
        video_extras=(ExtraColumn("kind", "categorical"), ExtraColumn("title_length", "numeric")),
    )


def event_table(
    exposures: Exposures,
    outcomes: Outcomes,
    videos: Videos,
    shown_at_ms: Integers,
    rows: Integers,
    before: tuple[int, int, int] = (0, 0, 0),
    surfaces: tuple[str, ...] = Habits().surfaces,
) -> pa.Table:
    """Build the event table.

    Args:
        exposures: The plan, (N,) per column.
        outcomes: What viewers did, (N,) per column.
        videos: The catalogue.
        shown_at_ms: (N,) UTC epoch milliseconds.
        rows: (K,) places in the plan, in the order of the log.
        before: Viewers, requests and events of the blocks before this one.
        surfaces: Their names.
    """
    viewers_before, requests_before, events_before = before
    shown, video = shown_at_ms[rows], exposures.video[rows]
    is_random = exposures.is_random[rows]
    nothing = pa.nulls(rows.size, pa.bool_())
    propensity = np.full(rows.size, 1.0 / videos.author.size)
    flags = {name: outcomes.flags[rows, place] for place, name in enumerate(FLAG_NAMES)}
    return pa.table(
        {
            "viewer_id": _ids("u", exposures.viewer[rows] + viewers_before),
            "video_id": _ids("v", video),
            "day": ((shown + UTC_OFFSET_MS) // DAY_MS).astype(np.int32),
            "shown_at_ms": shown,
            "watch_ms": outcomes.watch_ms[rows],
            "duration_ms": videos.duration_ms[video],
            "surface": _words(surfaces, exposures.surface[rows]),
            "request_id": _ids("r", exposures.request[rows] + requests_before),
            "position": exposures.position[rows].astype(np.int32),
            **flags,
            "clicked": nothing,
            "long_viewed": nothing,
            "policy": _words(("served", "random"), is_random.astype(np.int64)),
            "propensity": pa.array(propensity, mask=~is_random),
            "variant": pa.nulls(rows.size, pa.string()),
            "source_order": events_before + np.arange(rows.size, dtype=np.int64),
        }
    )


def video_table(videos: Videos) -> pa.Table:
    """Build the video table, one row per video."""
    known = videos.topics >= 0
    starts = np.concatenate([[0], np.cumsum(known.sum(axis=1))]).astype(np.int32)
    return pa.table(
        {
            "video_id": _ids("v", np.arange(videos.author.size)),
            "author_id": _ids("a", videos.author),
            "topics": pa.ListArray.from_arrays(starts, _topics(videos.topics[known])),
            "duration_ms": videos.duration_ms,
            "uploaded_at_ms": videos.uploaded_at_ms,
            "kind": _words(KINDS, videos.kind),
            "title_length": videos.title_length.astype(np.float64),
        }
    )


def viewer_table(viewers: Viewers, viewers_before: int = 0) -> pa.Table:
    """Build the viewer table, one row per viewer of a block."""
    return pa.table(
        {
            "viewer_id": _ids("u", viewers_before + np.arange(viewers.patience.size)),
            "age_group": _words(AGE_GROUPS, viewers.age_group),
            "num_followed": viewers.num_followed.astype(np.float64),
        }
    )


def truth_table(truth: Truth, rows: Integers, events_before: int = 0) -> pa.Table:
    """Build the table of what no log tells, one row per event, in the order of `rows`."""
    parts = {f"logit_{name}": truth.parts[:, place][rows] for place, name in enumerate(PART_NAMES)}
    return pa.table(
        {
            "source_order": events_before + np.arange(rows.size, dtype=np.int64),
            "p_glance": truth.p_glance[rows],
            "expected_watch_s": truth.expected_watch_s[rows],
            "affinity": truth.affinity[rows],
            **parts,
        }
    )


def _ids(letter: str, number: Integers) -> pa.Array:
    """Write each number that there may be once, where they repeat."""
    highest = int(number.max(initial=-1))
    lowest = int(number.min(initial=highest))
    if highest - lowest < number.size:
        return _spelt(letter, np.arange(lowest, highest + 1)).take(pa.array(number - lowest))
    return _spelt(letter, number)


def _spelt(letter: str, number: Integers) -> pa.Array:
    return pc.binary_join_element_wise(letter, pc.cast(pa.array(number), pa.string()), "")


def _topics(number: Integers) -> pa.Array:
    names = [*TOPIC_WORDS, *(f"t{at}" for at in range(len(TOPIC_WORDS), number.max(initial=0) + 1))]
    return pa.array(names).take(pa.array(number))


def _words(words: tuple[str, ...], place: Integers) -> pa.Array:
    return pa.array(words).take(pa.array(place))
