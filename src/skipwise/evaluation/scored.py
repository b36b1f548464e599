"""Which rows were scored, what came of them, and whose they are.

    arrays (N,)  ->  Scored  ->  every table of this folder

- Rows stand in the order of the log; every array has one value per row.
- A label is -1 where unknown; watch times and their expectations are NaN where unknown.
- The rows of a group belong to one viewer and were scored with one state.

Reads `errors`; is read by `scorecard` and `comparison`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers
from skipwise.evaluation.grouped import check_one_state


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """Rows with their outcomes and one scorer's predictions of them."""

    viewer: Integers
    """(N,) any number that names the viewer."""
    group: Integers
    """(N,) the rows ranked with one state; -1 = no group."""
    visible: Integers
    """(N,) how many past events of its viewer were known when the row was scored: its state."""
    labels: Mapping[str, NDArray[np.int8]]
    """Objective -> (N,) -1 unknown, 0, 1."""
    probabilities: Mapping[str, Floats]
    """Objective -> (N,) in [0, 1]."""
    watch_s: Floats
    """(N,) seconds watched; NaN = unknown."""
    expected_watch_s: Floats
    """(N,) seconds expected, >= 0; NaN in every row = not predicted."""
    duration_s: Floats
    """(N,) length of the video in seconds; NaN = unknown."""
    slices: Mapping[str, NDArray[Any]]
    """Name of a division -> (N,) which part each row is in."""

    def __post_init__(self) -> None:
        if not len(self.viewer):
            raise DatasetError(
                "No row was scored; a scorecard needs at least one. Choose days that have rows."
            )
        for name, values in self._arrays().items():
            if values.shape != self.viewer.shape:
                raise DatasetError(
                    f"{name} is {values.shape}, must be {self.viewer.shape}, one value per row. "
                    "Give every array the rows that were scored."
                )
        self._check_values()
        try:
            check_one_state(self.group, self.viewer)
        except DatasetError:
            raise DatasetError(
                "A group holds rows of two viewers; a slate is ranked for one. "
                "Number groups by viewer-day or by request."
            ) from None
        check_one_state(self.group, self.visible)

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.viewer)

    @property
    def objectives(self) -> tuple[str, ...]:
        """What has both a label and a prediction, in the order of the labels."""
        return tuple(name for name in self.labels if name in self.probabilities)

    @property
    def predicts_watch(self) -> bool:
        """Whether the expected watch time was predicted."""
        return bool(np.isfinite(self.expected_watch_s).all())

    def viewer_ix(self) -> tuple[Integers, int]:
        """Number the viewers 0, 1, ...: (N,) numbers, and how many viewers there are."""
        viewers, numbers = np.unique(self.viewer, return_inverse=True)
        return numbers, len(viewers)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "group": self.group,
            "visible": self.visible,
            "watch_s": self.watch_s,
            "expected_watch_s": self.expected_watch_s,
            "duration_s": self.duration_s,
            **{f"labels[{name!r}]": values for name, values in self.labels.items()},
            **{f"probabilities[{name!r}]": values for name, values in self.probabilities.items()},
            **{f"slices[{name!r}]": values for name, values in self.slices.items()},
        }

    def _check_values(self) -> None:
        for name, label in self.labels.items():
            _refuse(f"labels[{name!r}]", label, ~np.isin(label, (-1, 0, 1)), "-1, 0 or 1")
        for name, chance in self.probabilities.items():
            inside = (chance >= 0) & (chance <= 1)
            _refuse(f"probabilities[{name!r}]", chance, ~inside, "in [0, 1]")
        _refuse("watch_s", self.watch_s, self.watch_s < 0, ">= 0, or NaN where unknown")
        expected = self.expected_watch_s
        if not np.isnan(expected).all():
            possible = (expected >= 0) & np.isfinite(expected)
            _refuse("expected_watch_s", expected, ~possible, ">= 0 in every row, or NaN in all")


def _refuse(name: str, values: NDArray[Any], wrong: NDArray[np.bool_], wanted: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DatasetError(
            f"{name}[{row}] is {values[row]}, must be {wanted}. "
            "Mend what made it; a figure over such rows would mean nothing."
        )
