"""The counters of `counters`, one event at a time: the form serving uses.

    outcomes in the order they become known  ->  LiveCounters.learn
    a viewer, a video, today                 ->  LiveCounters.ask   ->  (K,) float32

- The caller decides what is known: all outcomes with `known_at_ms <= requested_at_ms` learnt before
  an ask give the counters as of the event, all with `known_day < D` those as of day D.
- Memory is bounded per key: one day and one vector of sums, however many events it has seen.
- A video's catalogue entry is given with each call; it must be the same at learning and asking.

Reads `counters` for the keys and their order; is read by serving.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skipwise.features.counter_names import (
    COUNTABLE,
    KEYS,
    MAY_BE_UNKNOWN,
    CounterConfig,
    sum_names,
)

Sums = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A video shown to a viewer, in codes: what the keys of its counters are made of."""

    viewer: int
    video: int
    author: int = 0
    """0 where unknown."""
    topics: tuple[int, ...] = ()
    """Distinct topic codes."""
    surface: int = 0
    """0 where unknown."""


@dataclass(slots=True)
class _Tally:
    """The sums of one key, as they weigh on `day`."""

    day: int
    sums: Sums


@dataclass
class LiveCounters:
    """Point-in-time counters in memory, fed and asked one at a time."""

    config: CounterConfig
    _tallies: dict[tuple[str, tuple[int, ...]], _Tally] = field(default_factory=dict, repr=False)

    def learn(self, shown: Shown, labels: Mapping[str, bool | None], known_clock_day: int) -> None:
        """Add an outcome that has just become known.

        Args:
            shown: What was shown to whom.
            labels: Verdict per objective; None or absent where it cannot be known.
            known_clock_day: Local calendar day on which it became known.
        """
        outcome = self._outcome(labels)
        for key in _keys(shown):
            tally = self._tallies.get(key)
            if tally is None:
                self._tallies[key] = _Tally(known_clock_day, outcome.copy())
                continue
            if known_clock_day > tally.day:
                tally.sums *= self._decay(known_clock_day - tally.day)
                tally.day = known_clock_day
            tally.sums += outcome * self._decay(tally.day - known_clock_day)

    def ask(self, shown: Shown, clock_day: int) -> NDArray[np.float32]:
        """Read the counters of a candidate.

        Args:
            shown: The candidate: who would see what, where.
            clock_day: Local calendar day of the request, or the day D of the day form; never before
                the last day learnt for these keys.

        Returns:
            (K,) counters in the order of `counter_names(config.counted)`, zero where nothing is
            known.
        """
        num_sums = len(sum_names(self.config.counted))
        answer = np.zeros((len(KEYS), num_sums))
        places = {name: place for place, name in enumerate(KEYS)}
        for key in _keys(shown):
            tally = self._tallies.get(key)
            if tally is not None:
                answer[places[key[0]]] += tally.sums * self._decay(clock_day - tally.day)
        return answer.reshape(-1).astype(np.float32)

    @property
    def num_keys(self) -> int:
        """How many keys are held: what memory grows with."""
        return len(self._tallies)

    def _outcome(self, labels: Mapping[str, bool | None]) -> Sums:
        """Return what one outcome adds: one view, then known and positive per objective."""
        parts = [1.0]
        for objective in COUNTABLE:
            if objective in self.config.counted:
                verdict = labels.get(objective)
                parts += [float(verdict is not None), float(bool(verdict))]
        return np.array(parts)

    def _decay(self, days: int) -> float:
        half_life_days = self.config.half_life_days
        return 1.0 if half_life_days is None else 2.0 ** (-days / half_life_days)


def _keys(shown: Shown) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name every key a showing counts towards; a topic's once for each topic."""
    for name, columns in KEYS.items():
        for topic in shown.topics if "topic" in columns else (0,):
            codes = tuple(
                topic if column == "topic" else getattr(shown, column) for column in columns
            )
            known = all(
                code > 0
                for column, code in zip(columns, codes, strict=True)
                if column in MAY_BE_UNKNOWN
            )
            if known:
                yield name, codes
