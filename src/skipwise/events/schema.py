"""What an event, a video and a viewer are, whatever the source they came from.

    any source  ->  read.read_log  ->  three tables with exactly these columns

- Units are in the names; an absent value is null, never 0 and never -1.
- A duration is never 0: a source that writes 0 for "unknown" is read as null.
- `shown_at_ms` is null for untimed past events only; those come first in `source_order`.
- Extra columns are declared in the description of the source, not in code.

Knows `errors`, `settings`; is read by every file of this folder and by the layers above.
"""

import zoneinfo
from dataclasses import dataclass
from typing import Literal

import ibis

from skipwise.errors import EventError
from skipwise.settings import nearest

ExtraKind = Literal["categorical", "numeric"]

EVENT_SCHEMA = ibis.schema(
    {
        "viewer_id": "string",
        "video_id": "string",
        "day": "int32",
        "shown_at_ms": "int64",
        "watch_ms": "int64",
        "duration_ms": "int64",
        "surface": "string",
        "request_id": "string",
        "position": "int32",
        "liked": "boolean",
        "followed": "boolean",
        "commented": "boolean",
        "shared": "boolean",
        "disliked": "boolean",
        "clicked": "boolean",
        "long_viewed": "boolean",
        "policy": "string",
        "propensity": "float64",
        "variant": "string",
        "source_order": "int64",
    }
)
"""One row per impression. `day` counts days since 1970-01-01 as the source defines its days."""

VIDEO_SCHEMA = ibis.schema(
    {
        "video_id": "string",
        "author_id": "string",
        "topics": "array<string>",
        "duration_ms": "int64",
        "uploaded_at_ms": "int64",
    }
)
"""One row per video; the extra columns of the source follow. No topic is an empty list."""

VIEWER_SCHEMA = ibis.schema({"viewer_id": "string"})
"""One row per viewer; the extra columns of the source follow."""

FLAGS = ("liked", "followed", "commented", "shared", "disliked", "clicked", "long_viewed")
"""The nullable booleans of an event."""


@dataclass(frozen=True)
class ExtraColumn:
    """One more column of a video or viewer table."""

    name: str
    """Its name in the canonical table."""

    kind: ExtraKind
    """`categorical` is held as a string, `numeric` as a float64; both may be null."""

    def __post_init__(self) -> None:
        """Refuse another kind, and a name that is taken.

        Raises:
            EventError: The kind is neither, or the name is a canonical one.
        """
        if self.kind not in ("categorical", "numeric"):
            raise EventError(
                f"extra column {self.name!r} is of kind {self.kind!r}, must be 'categorical' or "
                f"'numeric'.{nearest(str(self.kind), ('categorical', 'numeric'))} Change the kind."
            )
        if self.name in VIDEO_SCHEMA.names or self.name in VIEWER_SCHEMA.names:
            raise EventError(
                f"extra column {self.name!r} has the name of a canonical column; it must have "
                f"a name of its own. Rename the extra column."
            )

    @property
    def type(self) -> str:
        """Type in the canonical table, in the words of Ibis."""
        return "string" if self.kind == "categorical" else "float64"


@dataclass(frozen=True)
class SourceDescription:
    """What the tables alone do not say about a source."""

    name: str
    """What the source is called in reports: `kuairand`, or the name in the mapping file."""

    time_zone: str
    """The zone in which the source's days begin and end, as `Asia/Shanghai`."""

    viewer_extras: tuple[ExtraColumn, ...] = ()
    """What is known of viewers beside their id."""

    video_extras: tuple[ExtraColumn, ...] = ()
    """What is known of videos beside the canonical columns."""

    glance_needs_duration: bool = True
    """Whether a glance of a video of unknown length is unknown. False where the source's published
    rule, `w < min(3 s, d)`, is read with such a length as 0 s: then it is no glance."""

    def __post_init__(self) -> None:
        """Refuse a time zone that does not exist.

        Raises:
            EventError: The zone is not in the time zone database, or an extra is named twice.
        """
        if self.time_zone not in zoneinfo.available_timezones():
            zones = sorted(zoneinfo.available_timezones())
            raise EventError(
                f"time_zone = {self.time_zone!r} is not known; it must be a name such as "
                f"'Asia/Shanghai' or 'UTC'.{nearest(self.time_zone, zones)} Change time_zone."
            )
        for extras in (self.viewer_extras, self.video_extras):
            names = [extra.name for extra in extras]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise EventError(
                    f"extra column {twice[0]!r} is declared twice; a name must stand for one "
                    f"column. Delete one of them."
                )


def video_schema(description: SourceDescription) -> ibis.Schema:
    """Return the schema of the source's video table, extras included."""
    extras = {extra.name: extra.type for extra in description.video_extras}
    return ibis.schema({**VIDEO_SCHEMA, **extras})


def viewer_schema(description: SourceDescription) -> ibis.Schema:
    """Return the schema of the source's viewer table, extras included."""
    extras = {extra.name: extra.type for extra in description.viewer_extras}
    return ibis.schema({**VIEWER_SCHEMA, **extras})
