"""What is held of one viewer: the last events, and decayed sums of everything before now.

    bytes  ->  Past.unpack  ->  Past  ->  add | amend  ->  Past.pack  ->  bytes

- Events stand in the order shown, as `features.sequence` puts them; places in the session and runs
  of glances are those of the whole sequence, also when an event arrives late.
- Sums hold what `features.live.LiveCounters` holds of the keys with the viewer in them; a sum is
  never rebuilt from events, so it reaches further back than they do.
- Bounded: so many events and sums are kept; the oldest, and the faintest, go first.
- Which video or author is named by 64 bits (`names`), so that the bytes outlive any catalogue.

Reads `names` and `rules`; is read by `intake`, `rows` and `seed`. No I/O.
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import StateError
from skipwise.features.counter_names import KEYS
from skipwise.labels.watch import LABELS
from skipwise.serving.names import Names, maybe_among, name_of

EVENT = np.dtype(
    [
        ("event", "<u8"),
        ("video", "<u8"),
        ("surface", "<u8"),
        ("shown_at_ms", "<i8"),
        ("known_at_ms", "<i8"),
        ("watch_s", "<f4"),
        ("duration_s", "<f4"),
        ("known_day", "<i4"),
        ("known", "<u2"),
        ("positive", "<u2"),
        ("session_place", "<i2"),
        ("glance_run", "<i2"),
        ("hour", "i1"),
        ("feedback", "i1"),
    ]
)
"""One event: ids as names, times in ms (-1 untimed), labels as bits in the order of `LABELS`."""

GLANCE_BIT = 1 << LABELS.index("glance")
_LONGEST = 32_767
_HEADER = struct.Struct("<4sHHIIqf")
_MAGIC = b"past"
_VERSION = 1

SALT = {key: name_of(f"key of {key}") for key in (*KEYS, "negative")}
"""Sets the sums of different keys apart: a sum's key is a name xor its salt."""


def key_of(key: str, name: int) -> int:
    """Return the key of a sum, of one of `KEYS`, under a name; 0, which nothing has, of no name."""
    return name ^ SALT[key] if name else 0


Sums = NDArray[np.float64]


def known_outcomes(known: int, positive: int) -> dict[str, bool]:
    """Return the labels that are known, from bits in the order of `LABELS`.

    >>> known_outcomes(0b11, 0b10)
    {'glance': False, 'effective': True}
    """
    return {
        name: bool(positive >> place & 1) for place, name in enumerate(LABELS) if known >> place & 1
    }


@lru_cache(maxsize=16)
def tally_type(num_sums: int) -> np.dtype[np.void]:
    """Return the type of one sum: its key, the day it stands at, S sums."""
    return np.dtype([("key", "<u8"), ("day", "<i4"), ("sums", "<f4", (num_sums,))])


@dataclass(slots=True)
class Past:
    """One viewer's past; see the module header."""

    num_sums: int
    half_life_days: float | None
    events: NDArray[np.void] = field(default_factory=lambda: np.empty(0, dtype=EVENT))
    """(T,) of EVENT, in the order shown."""
    tallies: NDArray[np.void] = field(init=False)
    """(keys,) of `tally_type`, by key."""
    touched_at_ms: int = 0
    """When the newest outcome became known: the viewer's own clock, which never goes back."""
    negatives: float = 0.0
    """Explicit negatives this viewer has given, decayed as sums are; `negatives` reads them."""

    def __post_init__(self) -> None:
        self.tallies = np.empty(0, dtype=tally_type(self.num_sums))

    @classmethod
    def unpack(cls, data: bytes | None, num_sums: int, half_life_days: float | None) -> "Past":
        """Read a past back; None is a viewer never seen.

        Raises:
            StateError: The bytes are cut short, of another version, or count other objectives.
        """
        past = cls(num_sums, half_life_days)
        if data is None:
            return past
        try:
            magic, version, sums, num_events, num_tallies, touched, negatives = _HEADER.unpack_from(
                data
            )
            kind = tally_type(num_sums)
            at = _HEADER.size + num_events * EVENT.itemsize
            fits = len(data) == at + num_tallies * kind.itemsize
        except struct.error:
            fits, magic, version, sums = False, b"", 0, 0
        if not fits or (magic, version, sums) != (_MAGIC, _VERSION, num_sums):
            raise StateError(
                f"a viewer's stored past is {len(data)} bytes of version {version} with {sums} "
                f"sums, must be whole, of version {_VERSION} and with {num_sums}. It is damaged or "
                "was kept for another model: start with a new --state."
            )
        past.events = np.frombuffer(data, EVENT, num_events, _HEADER.size)
        past.tallies = np.frombuffer(data, kind, num_tallies, at)
        past.touched_at_ms, past.negatives = touched, negatives
        return past

    def pack(self) -> bytes:
        """Return the bytes that `unpack` reads."""
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            self.num_sums,
            len(self.events),
            len(self.tallies),
            self.touched_at_ms,
            self.negatives,
        )
        return header + self.events.tobytes() + self.tallies.tobytes()

    def add(self, event: np.void, session_gap_ms: int, keep_events: int) -> None:
        """Put an event where it was shown, and say anew who follows whom from there on.

        An untimed one follows nobody, and nobody follows it: places of the others stay, also where
        those they were counted from are no longer held. One older than all that are kept is not.

        Args:
            event: Of EVENT; its place and run are filled in here.
            session_gap_ms: A longer pause starts a new session.
            keep_events: How many stay.
        """
        self.touched_at_ms = max(self.touched_at_ms, int(event["known_at_ms"]))
        place = int(np.searchsorted(self.events["shown_at_ms"], event["shown_at_ms"], "right"))
        if not place and len(self.events) >= keep_events:
            return
        self.events = np.insert(self.events, place, event)
        if event["shown_at_ms"] >= 0:
            self._number_from(place, session_gap_ms)
        else:
            self.events[place]["session_place"] = self.events[place]["glance_run"] = 0
        self.events = self.events[-keep_events:]

    def find(self, event_name: int) -> int | None:
        """Return where an event stands; None where it is no longer held."""
        found = np.flatnonzero(self.events["event"] == np.uint64(event_name))
        return int(found[-1]) if len(found) else None

    def amend(self, place: int, known: int, positive: int, feedback: int) -> None:
        """Let an event read as it does with a late outcome, from now on."""
        self.events = self.events.copy()
        event = self.events[place]
        event["known"], event["positive"], event["feedback"] = known, positive, feedback

    def learn(self, keys: Names, outcome: Sums, clock_day: int, keep_keys: int) -> None:
        """Add an outcome to the sums of some keys.

        Args:
            keys: (k,) distinct salted names.
            outcome: (S,) what it adds.
            clock_day: Local calendar day on which it became known.
            keep_keys: How many sums stay.
        """
        places = np.searchsorted(self.tallies["key"], keys)
        held = self._held(places, keys)
        self.tallies = self.tallies.copy()
        for place in places[held]:
            tally = self.tallies[place]
            if clock_day > tally["day"]:
                tally["sums"] *= self._decay(clock_day - int(tally["day"]))
                tally["day"] = clock_day
            tally["sums"] += outcome * self._decay(int(tally["day"]) - clock_day)
        if not held.all():
            fresh = np.zeros(int((~held).sum()), dtype=self.tallies.dtype)
            fresh["key"], fresh["day"], fresh["sums"] = keys[~held], clock_day, outcome
            self.tallies = np.insert(self.tallies, places[~held], fresh)
            self.tallies = self.tallies[np.argsort(self.tallies["key"], kind="stable")]
        if len(self.tallies) > keep_keys:
            self._forget_faintest(keep_keys)

    def ask(self, keys: Names, clock_day: int) -> Sums:
        """Read sums as they weigh on a day.

        Args:
            keys: (...) salted names.
            clock_day: Local calendar day of the request.

        Returns:
            (..., S); zeros where nothing is held. Before its own day a sum weighs whole.
        """
        weighed = np.zeros((keys.size, self.num_sums))
        places, sums = self.held(keys.ravel(), clock_day)
        weighed[places] = sums
        return weighed.reshape(*keys.shape, self.num_sums)

    def held(self, keys: Names, clock_day: int) -> tuple[NDArray[np.int64], Sums]:
        """Read those sums that are held, as they weigh on a day.

        Args:
            keys: (N,) salted names.
            clock_day: Local calendar day of the request.

        Returns:
            (n,) places in keys, ascending, of those that are held; their (n, S) sums.
        """
        kept = self.tallies["key"]
        maybe = maybe_among(keys, kept)
        if not len(kept) or not len(maybe):
            return np.empty(0, dtype=np.int64), np.empty((0, self.num_sums))
        asked = keys.take(maybe)
        at = np.minimum(kept.searchsorted(asked), len(kept) - 1)
        found = np.flatnonzero(kept.take(at) == asked)
        tallies = self.tallies.take(at.take(found))
        weight = self._decay(clock_day - tallies["day"].astype(np.float64))
        return maybe.take(found), tallies["sums"] * np.asarray(weight)[:, None]

    def holds(self, key: int) -> bool:
        """Say whether a key is held."""
        place = int(np.searchsorted(self.tallies["key"], np.uint64(key)))
        return place < len(self.tallies) and int(self.tallies["key"][place]) == key

    def _held(self, places: NDArray[np.int64], keys: Names) -> NDArray[np.bool_]:
        if not len(self.tallies):
            return np.zeros(keys.shape, dtype=bool)
        inside = np.minimum(places, len(self.tallies) - 1)
        found: NDArray[np.bool_] = self.tallies["key"][inside] == keys
        return found

    def _decay(self, days: float | NDArray[np.float64]) -> NDArray[np.float64] | float:
        if self.half_life_days is None:
            return np.ones_like(days) if isinstance(days, np.ndarray) else 1.0
        return 2.0 ** (-np.maximum(days, 0.0) / self.half_life_days)

    def _forget_faintest(self, keep: int) -> None:
        newest = self.tallies["day"].max()
        views = self.tallies["sums"][:, 0] * self._decay(
            (newest - self.tallies["day"]).astype(np.float64)
        )
        kept = np.sort(np.argsort(-views, kind="stable")[:keep])
        self.tallies = self.tallies[kept]

    def _number_from(self, start: int, session_gap_ms: int) -> None:
        """Fill in place and run from an event on, as `features.sequence` does for all."""
        for place in range(start, len(self.events)):
            event = self.events[place]
            glance = bool(event["positive"] & event["known"] & GLANCE_BIT)
            before = self.events[place - 1] if place else None
            follows = (
                before is not None
                and before["shown_at_ms"] >= 0
                and event["shown_at_ms"] - before["shown_at_ms"] <= session_gap_ms
            )
            position = (before["session_place"] + 1) if follows and before is not None else 0
            run = before["glance_run"] if follows and before is not None else 0
            timed = event["shown_at_ms"] >= 0
            event["session_place"] = min(int(position), _LONGEST) if timed else 0
            event["glance_run"] = min(int(run) + 1, _LONGEST) if timed and glance else 0
