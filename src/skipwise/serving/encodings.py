"""Encoded pasts that are kept, and how much of one still holds.

    viewer, its events now  ->  Encodings.find  ->  Encoded of the oldest of them, and how many
    Encoded of all of them  ->  Encodings.put   ->  kept, in place of the viewer's last one

- An encoded event depends on itself and on those before it, so what holds is all before the first
  event that has arrived, or been changed by a late outcome, since then.
- Events are compared byte by byte: whatever changed them, what is used was made of the same.
- At least a window of encoded events is used, or all there are; else everything is encoded anew.
- One encoding per viewer and so many viewers; the longest unused goes.

Reads `backends` and `past`; is read by the pipeline.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.model.request import Encoded
from skipwise.serving.backends import Backend
from skipwise.serving.past import EVENT

Events = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class _Kept:
    checksum: str
    """Of the model."""
    events: bytes
    """Those that were read, EVENT each."""
    encoded: Encoded


class Encodings:
    """Encoded pasts of the last viewers; see the module header."""

    def __init__(self, at_most: int = 256) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.at_most = at_most

    def __len__(self) -> int:
        return len(self._kept)

    def find(
        self, viewer_id: str, checksum: str, events: Events, backend: Backend
    ) -> tuple[Encoded | None, int]:
        """Return what is encoded of a viewer's oldest events.

        Args:
            viewer_id: Whose.
            checksum: Of the model; what another one encoded does not hold.
            events: (N,) of EVENT, those that have arrived: the last `reach`, and the one before
                them where there is one, for an event is read with the time since its predecessor.
            backend: Says how far back an event reads, and whether events can follow others.

        Returns:
            The encoding, None where everything is to be encoded; and how many of `events` it
            covers, counted from the first.
        """
        kept = self._kept.get(viewer_id)
        if kept is None or kept.checksum != checksum:
            return None, 0
        self._kept.move_to_end(viewer_id)
        if kept.events == events.tobytes():
            return kept.encoded, len(events)
        dropped, same = _same(kept.events, events)
        number = len(kept.events) // EVENT.itemsize
        cut_in_front = len(events) > backend.reach
        if (
            not (same and backend.encoder.follows)
            or (dropped and not cut_in_front)
            or dropped + len(events) < number
        ):
            return None, 0
        left = len(kept.encoded) - (number - dropped - same)
        whole = number <= backend.reach and len(kept.encoded) == number
        if left < backend.encoder.history_length and not whole:
            return None, 0
        return kept.encoded.cut(slice(left)), same

    def put(self, viewer_id: str, checksum: str, events: Events, encoded: Encoded) -> None:
        """Keep the encoding of all of a viewer's events; arguments as those of `find`."""
        self._kept[viewer_id] = _Kept(checksum, events.tobytes(), encoded)
        self._kept.move_to_end(viewer_id)
        if len(self._kept) > self.at_most:
            self._kept.popitem(last=False)

    def forget(self, viewer_id: str) -> None:
        """Keep nothing of a viewer."""
        self._kept.pop(viewer_id, None)

    def clear(self) -> None:
        """Keep nothing: a video has changed."""
        self._kept.clear()

    @property
    def num_bytes(self) -> int:
        """How much memory is held."""
        return sum(len(kept.events) + kept.encoded.num_bytes for kept in self._kept.values())


def _same(held: bytes, events: Events) -> tuple[int, int]:
    """Return how many held events came before `events`, and how many of `events` are held as is."""
    if not len(events):
        return 0, 0
    now, size = events.tobytes(), EVENT.itemsize
    at = held.find(now[:size])
    if at < 0 or at % size:
        return 0, 0
    both = min(len(held) - at, len(now))
    one, other = (np.frombuffer(each, np.uint8, both) for each in (held[at:], now))
    differs = (one != other).reshape(-1, size).any(1)
    return at // size, int(differs.argmax()) if differs.any() else len(differs)
