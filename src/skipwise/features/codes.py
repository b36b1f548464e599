"""Which number stands for which viewer, video, author, topic, surface or category.

    events, videos, viewers (words)  ->  make_codes  ->  Codes (tables of word and code)
                                         code_videos, code_viewers  ->  catalogues in codes

- Codes follow the order of the words, so the same log always gets the same codes.
- Viewers and videos count from 0: all of the log and of its catalogues. Authors, topics, surfaces
  and categories count from 1; 0 is unknown.
- What a model knows of them is its vocabulary's business, not settled here.

Reads canonical tables (`events`); is read by `prepare`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ibis
from ibis import _
from ibis.expr.types import Column, Table

from skipwise.errors import EventError
from skipwise.events.schema import ExtraColumn
from skipwise.features.known import clock_day
from skipwise.labels.thresholds import bucket_expression, seconds
from skipwise.labels.watch import LabelConfig

Keep = Callable[[str, Table], Table]

Extras = Mapping[str, Table | None]
"""For each extra column the codes of its categories; None for a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Codes:
    """Tables of (`word`, `code`), every word once."""

    viewers: Table
    videos: Table
    authors: Table
    topics: Table
    surfaces: Table


def make_codes(events: Table, videos: Table, viewers: Table, keep: Keep) -> Codes:
    """Number the words of a log.

    Args:
        events: Canonical events.
        videos: Canonical video table.
        viewers: Canonical viewer table.
        keep: Where tables go: given a name and a table, returns what to read on.

    Returns:
        The codes.

    Raises:
        EventError: A catalogue names a video or a viewer twice.
    """
    _check_named_once(videos, "video_id")
    _check_named_once(viewers, "viewer_id")
    all_viewers = events.select(word=_.viewer_id).union(viewers.select(word=_.viewer_id))
    all_videos = events.select(word=_.video_id).union(videos.select(word=_.video_id))
    return Codes(
        viewers=keep("viewer codes", number(all_viewers.word, first=0)),
        videos=keep("video codes", number(all_videos.word, first=0)),
        authors=keep("author codes", number(videos.author_id, first=1)),
        topics=keep("topic codes", number(videos.select(word=_.topics.unnest()).word, first=1)),
        surfaces=keep("surface codes", number(events.surface, first=1)),
    )


def number(words: Column, first: int) -> Table:
    """Number distinct words in their own order, leaving out null.

    Returns:
        `word` (string), `code` (int32), one row per word.
    """
    distinct = words.cast("string").name("word").as_table().filter(_.word.notnull()).distinct()
    place = ibis.row_number().over(ibis.window(order_by="word"))
    return distinct.mutate(code=(place + first).cast("int32"))


def words_of(codes: Table) -> list[str]:
    """Return the words in code order."""
    words: list[str] = codes.order_by("code").word.to_pyarrow().to_pylist()
    return words


def add_codes(table: Table, codes_of: Mapping[str, tuple[str, Table]]) -> Table:
    """Add codes to a table, 0 where the word is null.

    Args:
        table: Any rows.
        codes_of: For each new column, the column of words and its codes (`word`, `code`).

    Returns:
        The rows with the new columns (int32), in no set order.
    """
    joined = table
    for name, (column, codes) in codes_of.items():
        lookup = codes.select(**{f"{name}_word": codes.word, f"{name}_code": codes.code})
        joined = joined.left_join(lookup, joined[column].cast("string") == lookup[f"{name}_word"])
    return joined.select(
        *(joined[name] for name in table.columns if name not in codes_of),
        **{name: joined[f"{name}_code"].fill_null(0) for name in codes_of},
    )


def code_videos(
    codes: Codes,
    videos: Table,
    events: Table,
    extras: Extras,
    time_zone: str,
    labels: LabelConfig,
) -> Table:
    """Put the video catalogue in codes, a row for every video of the log.

    Args:
        codes: From `make_codes`.
        videos: Canonical video table.
        events: Canonical events; they tell the duration of a video the catalogue knows not.
        extras: For each extra column its category codes; None for a number.
        time_zone: In which the upload day is told.
        labels: Holds the edges of the duration buckets.

    Returns:
        The columns of `videos.arrow`, and `video`, its code.

    Raises:
        EventError: The time zone is unknown.
    """
    seen = events.group_by(video_id=_.video_id).aggregate(seen_duration_ms=_.duration_ms.max())
    everything = codes.videos.select(video_id=_.word, video=_.code)
    table = _look_up(everything, videos, seen, _topic_lists(codes, videos), by="video_id")
    table = add_codes(table, {"author": ("author_id", codes.authors), **_categories(extras)})
    duration_s = seconds(ibis.coalesce(table.duration_ms, table.seen_duration_ms))
    table = table.mutate(
        duration_s=_float32(duration_s),
        duration_bucket=bucket_expression(duration_s, labels),
        uploaded_day=_upload_day(table, time_zone),
        topics=ibis.coalesce(table.topic_codes, ibis.literal([], type="array<int32>")),
    )
    return table.select(
        "video", "video_id", "author", "topics", "duration_s", "duration_bucket",
        "uploaded_day",
        **_extra_columns(table, extras),
    )  # fmt: skip


def code_viewers(codes: Codes, viewers: Table, events: Table, extras: Extras) -> Table:
    """Put the viewer catalogue in codes, a row for every viewer of the log.

    Args:
        codes: From `make_codes`.
        viewers: Canonical viewer table.
        events: Canonical events.
        extras: For each extra column its category codes; None for a number.

    Returns:
        The columns of `viewers.arrow` except `first_row`, and `viewer`, its code.
    """
    counts = events.group_by(viewer_id=_.viewer_id).aggregate(events_seen=_.count())
    everything = codes.viewers.select(viewer_id=_.word, viewer=_.code)
    table = _look_up(everything, viewers, counts, by="viewer_id")
    table = add_codes(table, _categories(extras))
    return table.select(
        "viewer",
        "viewer_id",
        num_rows=table.events_seen.fill_null(0).cast("int32"),
        **_extra_columns(table, extras),
    )


def code_extras(table: Table, declared: tuple[ExtraColumn, ...], keep: Keep) -> Extras:
    """Number the categories of a catalogue's extra columns; a numeric one has None."""
    return {
        extra.name: keep(f"{extra.name} codes", number(table[extra.name], first=1))
        if extra.kind == "categorical"
        else None
        for extra in declared
    }


def _look_up(table: Table, *others: Table, by: str) -> Table:
    """Add the columns of other tables, null where they lack the row."""
    joined = table
    for place, other in enumerate(others):
        renamed = other.rename({f"{by}_{place}": by})
        joined = joined.left_join(renamed, joined[by] == renamed[f"{by}_{place}"])
    return joined.select(
        *table.columns, *(name for other in others for name in other.columns if name != by)
    )


def _categories(extras: Extras) -> dict[str, tuple[str, Table]]:
    return {f"extra_{name}": (name, codes) for name, codes in extras.items() if codes is not None}


def _extra_columns(table: Table, extras: Extras) -> dict[str, Column]:
    return {
        f"extra_{name}": _float32(table[name]) if codes is None else table[f"extra_{name}"]
        for name, codes in extras.items()
    }


def _topic_lists(codes: Codes, videos: Table) -> Table:
    """Return `video_id` and `topic_codes`: sorted, each once."""
    pairs = videos.select(video_id=_.video_id, word=_.topics.unnest()).distinct()
    coded = pairs.join(codes.topics, "word")
    return coded.group_by("video_id").aggregate(topic_codes=_.code.collect().sort())


def _upload_day(table: Table, time_zone: str) -> Column:
    ends = table.aggregate(first=_.uploaded_at_ms.min(), last=_.uploaded_at_ms.max())
    span = ends.to_pyarrow().to_pylist()[0]
    if span["first"] is None:
        return ibis.literal(-1, type="int32")
    day = clock_day(table.uploaded_at_ms, time_zone, (span["first"], span["last"]))
    return day.fill_null(-1).cast("int32")


def _float32(value: Column) -> Column:
    return value.cast("float32").fill_null(ibis.literal(float("nan"), type="float32"))


def _check_named_once(table: Table, column: str) -> None:
    twice = table.group_by(column).aggregate(rows=_.count()).filter(_.rows > 1)
    found = twice.order_by(column).limit(1).to_pyarrow().to_pylist()
    if found:
        raise EventError(
            f"{column} {found[0][column]!r} has {found[0]['rows']} rows in its catalogue, must "
            "have one: its events would count twice. Drop the doubles in the source."
        )
