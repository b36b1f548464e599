"""A dataset's events as a server would have been sent them, in the order they became known."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skipwise.features.dataset import Dataset, iso_day
from skipwise.labels.watch import FLAG_OF
from skipwise.serving.wire import Event


@dataclass(frozen=True)
class Asking:
    """A row as a candidate: asked for just before it was shown."""

    row: int
    viewer_id: str
    video_id: str
    surface: str | None
    requested_at_ms: int
    day: str


def replay(dataset: Dataset, after_ms: int) -> Iterator[Event | Asking]:
    """Yield requests, and the events that became known after an instant, in the order of time.

    An outcome known at the very instant of a request comes before it.
    """
    columns = {name: dataset.events[name].all() for name in dataset.events}
    viewers = dataset.viewers["viewer_id"].to_pylist()
    videos = dataset.videos["video_id"].to_pylist()
    surfaces = [None, *dataset.description["surfaces"]]
    timed = np.flatnonzero(columns["shown_at_ms"] >= 0)
    moments: list[tuple[int, int, int, int]] = []
    for row in timed.tolist():
        order = int(columns["source_order"][row])
        if columns["known_at_ms"][row] > after_ms:
            moments.append((int(columns["known_at_ms"][row]), 0, order, row))
        if columns["requested_at_ms"][row] > after_ms:
            moments.append((int(columns["requested_at_ms"][row]), 1, order, row))
    heapq.heapify(moments)
    while moments:
        _, kind, order, row = heapq.heappop(moments)
        viewer, video = viewers[columns["viewer"][row]], videos[columns["video"][row]]
        surface, day = surfaces[columns["surface"][row]], iso_day(columns["day"][row])
        if kind == 1:
            requested = int(columns["requested_at_ms"][row])
            yield Asking(row, viewer, video, surface, requested, day)
            continue
        watch_s, duration_s = columns["watch_s"][row], columns["duration_s"][row]
        flags: dict[str, Any] = {
            flag: {-1: None, 0: False, 1: True}[int(columns[f"label_{label}"][row])]
            for label, flag in FLAG_OF.items()
        }
        long_viewed = {-1: None, 0: False, 1: True}[int(columns["label_long"][row])]
        yield Event(
            event_id=f"e{order}",
            viewer_id=viewer,
            video_id=video,
            shown_at_ms=int(columns["shown_at_ms"][row]),
            watch_ms=None if np.isnan(watch_s) else round(float(watch_s) * 1000),
            duration_ms=None if np.isnan(duration_s) else round(float(duration_s) * 1000),
            surface=surface,
            day=day,
            long_viewed=long_viewed,
            **flags,
        )
