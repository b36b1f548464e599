"""Which outcomes may be known when a row is scored: a mode, for one or for many.

    mode, delay, last day   ->  View   ->  one way to see
    N views side by side    ->  Views  ->  prefix (T,), which counters each reads

Reads `visibility`; is read by `stretches`, training, evaluation and serving.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.features.visibility import Mode, Prefix, daily_prefix, live_prefix, window_prefix

Codes = NDArray[np.int64]


CounterForm = Literal["day", "event"]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Which outcomes the state may hold when a row is scored."""

    mode: Mode = "daily"
    """Window mode needs `window_last_day`."""
    extra_delay_ms: int = 0
    """Progressive mode: how much later than `known_at` outcomes arrive."""
    window_last_day: int | None = None
    """Window mode: the last day of the training window."""

    def __post_init__(self) -> None:
        if (self.mode == "window") != (self.window_last_day is not None):
            raise SettingError(
                f"window_last_day = {self.window_last_day} in {self.mode} mode; window mode must "
                "have it and no other may. Set both or neither."
            )

    @property
    def counter_form(self) -> CounterForm:
        """Return which counters this view reads, see `Views.live_counters`."""
        return "event" if Views.same(self, 1).live_counters[0] else "day"


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """How each of N viewers or stretches sees: N views side by side, all of one window."""

    live: NDArray[np.bool_]
    """(N,) progressive mode; the others are daily, or window mode where the day is set."""
    extra_delay_ms: Codes
    """(N,) of the live ones; 0 elsewhere."""
    window_last_day: int | None = None

    @classmethod
    def same(cls, view: View, number: int) -> "Views":
        """Give everybody one view."""
        return cls(
            live=np.full(number, view.mode == "progressive"),
            extra_delay_ms=np.full(number, view.extra_delay_ms, dtype=np.int64),
            window_last_day=view.window_last_day,
        )

    def __len__(self) -> int:
        return len(self.live)

    def take(self, places: Codes) -> "Views":
        """Return the views at some places."""
        return Views(
            live=self.live[places],
            extra_delay_ms=self.extra_delay_ms[places],
            window_last_day=self.window_last_day,
        )

    def prefix(self, columns: Mapping[str, NDArray[Any]], place: Codes) -> Prefix:
        """Count the visible events of rows, (T,) -> (T,); one view per row.

        Args:
            columns: (T,) each, of one or several viewers, one after the other.
            place: (T,) each row's place among its viewer's.
        """
        if self.window_last_day is not None:
            return window_prefix(columns["known_day"], self.window_last_day, place)
        daily = daily_prefix(columns["known_day"], columns["day"], place)
        if not self.live.any():
            return daily
        live = live_prefix(
            columns["known_at_ms"], columns["requested_at_ms"], self.extra_delay_ms, place
        )
        return np.where(self.live, live, daily)

    @property
    def live_counters(self) -> NDArray[np.bool_]:
        """Return who reads live counters, (N,); the others read those of a nightly refresh.

        With an extra delay there are no counters of just that age; the nightly ones stand in. They
        may hold an outcome up to the delay early, in the first hours of a day.
        """
        form: NDArray[np.bool_] = self.live & (self.extra_delay_ms == 0)
        return form
