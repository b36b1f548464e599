"""Where the KuaiRand archives keep what.

    folder of KuaiRand-Pure, -1K or -27K  ->  kuairand_layout  ->  Layout

- Every `log_*.csv` is read: in `data/`, or in the folder itself. 27K's parts are read in order.
- `date` is the calendar day and runs up to an hour ahead of `time_ms`, the instant: both are kept.
- `history_*.parquet` holds past exposures in order, without time or watch time.

After Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed
Videos", CIKM 2022, and the field descriptions published with it.

Knows `layout`; is read by `read`.
"""

import re
from pathlib import Path

from skipwise.events.layout import Column, Layout, TableLayout, extra_columns
from skipwise.events.schema import ExtraColumn, SourceDescription

TIME_ZONE = "Asia/Shanghai"

_EVENTS = {
    "viewer_id": Column(written="user_id"),
    "video_id": Column(written="video_id"),
    "day": Column(written="date", form="day_yyyymmdd"),
    "shown_at_ms": Column(written="time_ms", form="epoch_ms"),
    "watch_ms": Column(written="play_time_ms", form="ms"),
    "duration_ms": Column(written="duration_ms", form="ms"),
    "surface": Column(written="tab"),
    "liked": Column(written="is_like", form="flag"),
    "followed": Column(written="is_follow", form="flag"),
    "commented": Column(written="is_comment", form="flag"),
    "shared": Column(written="is_forward", form="flag"),
    "disliked": Column(written="is_hate", form="flag"),
    "clicked": Column(written="is_click", form="flag"),
    "long_viewed": Column(written="long_view", form="flag"),
    "policy": Column(written="is_rand", form="random_flag"),
}

_HISTORY = {
    "viewer_id": Column(written="user_id"),
    "video_id": Column(written="video_id"),
    "liked": Column(written="is_like", form="flag"),
    "long_viewed": Column(written="long_view", form="flag"),
}

_VIDEOS = {
    "video_id": Column(written="video_id"),
    "author_id": Column(written="author_id"),
    "topics": Column(written="tag", form="list"),
    "duration_ms": Column(written="video_duration", form="ms"),
    "uploaded_at_ms": Column(written="upload_dt", form="iso", required=False),
}

_VIDEO_EXTRAS = tuple(
    ExtraColumn(name, "categorical")
    for name in ("video_type", "upload_type", "music_type", "visible_status")
)

_VIEWER_CATEGORIES = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{number}" for number in range(18)),
)

_VIEWER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")

_VIEWER_EXTRAS = (
    *(ExtraColumn(name, "categorical") for name in _VIEWER_CATEGORIES),
    *(ExtraColumn(name, "numeric") for name in _VIEWER_NUMBERS),
)


def is_kuairand(folder: Path) -> bool:
    """Whether a folder holds KuaiRand logs."""
    return bool(_found(folder, "log_*.csv"))


def kuairand_layout(folder: Path) -> Layout:
    """Say where a KuaiRand folder keeps everything; its log files must exist."""
    history = _found(folder, "history_*.parquet")
    return Layout(
        description=SourceDescription(
            name="kuairand",
            time_zone=TIME_ZONE,
            viewer_extras=_VIEWER_EXTRAS,
            video_extras=_VIDEO_EXTRAS,
            glance_needs_duration=False,  # published figures read a duration of 0 as written
        ),
        events=TableLayout(what="log", files=_found(folder, "log_*.csv"), columns=_EVENTS),
        history=None
        if not history
        else TableLayout(
            what="history file",
            files=history,
            columns=_HISTORY,
            constants={"policy": "served"},
            counts_back="seq_from_end",
            may_be_untimed=True,
        ),
        videos=_catalogue(
            "video table", _found(folder, "video_features_basic*.csv"), _VIDEOS, _VIDEO_EXTRAS
        ),
        viewers=_catalogue(
            "viewer table",
            _found(folder, "user_features*.csv"),
            {"viewer_id": Column(written="user_id")},
            _VIEWER_EXTRAS,
        ),
        to_change_a_unit="KuaiRand's own files are in milliseconds; read changed ones through a "
        "mapping file with {setting} for {of}",
    )


def _catalogue(
    what: str,
    files: tuple[Path, ...],
    columns: dict[str, Column],
    extras: tuple[ExtraColumn, ...],
) -> TableLayout | None:
    if not files:
        return None
    more = extra_columns(extras, required=False)
    return TableLayout(what=what, files=files, columns=columns | more)


def _found(folder: Path, pattern: str) -> tuple[Path, ...]:
    """List the files of a pattern in `data/` or in the folder, part2 before part10."""
    for place in (folder / "data", folder):
        files = sorted(place.glob(pattern), key=_numbers_as_numbers)
        if files:
            return tuple(files)
    return ()


def _numbers_as_numbers(file: Path) -> list[tuple[int, str]]:
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece)
        for piece in re.split(r"(\d+)", file.name)
    ]
