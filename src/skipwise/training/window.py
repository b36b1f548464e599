"""Which rows a run may learn from, and which choose when it stops.

    Dataset, last day  ->  training_window  ->  TrainingWindow: past, training and validation rows

- Split by calendar day alone. Nothing after `last_day` is touched.

Is read by `fit` and evaluation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.features.dataset import Dataset, iso_day
from skipwise.model.objectives import OBJECTIVES


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingWindow:
    """Row sets of one training run."""

    first_day: int
    last_day: int
    validation_from: int
    """First day held out for validation."""
    day: NDArray[np.int32]
    """(E,) calendar day of every event row."""
    timed: NDArray[np.bool_]
    """(E,) rows that can be scored."""

    def training(self, *, with_validation: bool) -> NDArray[np.bool_]:
        """(E,) rows whose outcomes are learnt."""
        until = self.last_day if with_validation else self.validation_from - 1
        return self.timed & (self.day <= until)

    def known(self, *, with_validation: bool) -> NDArray[np.bool_]:
        """(E,) rows whose ids and past may be known: the training rows and untimed past events."""
        until = self.last_day if with_validation else self.validation_from - 1
        known: NDArray[np.bool_] = self.day <= until
        return known

    def validation(self) -> NDArray[np.bool_]:
        """(E,) rows that choose when to stop."""
        return self.timed & (self.day >= self.validation_from) & (self.day <= self.last_day)


def training_window(dataset: Dataset, last_day: int | None, validation_days: int) -> TrainingWindow:
    """Split a dataset's days into training and validation.

    Args:
        dataset: Prepared events.
        last_day: Last day to learn from (inclusive); None = the dataset's last.
        validation_days: How many of the last days are held out.

    Raises:
        DatasetError: The day is outside the data, or no training day is left, or one viewer is.
    """
    first, last = dataset.days
    chosen = last if last_day is None else last_day
    if not first <= chosen <= last:
        raise DatasetError(
            f"--until {iso_day(chosen)} is outside the data, which runs from {iso_day(first)} to "
            f"{iso_day(last)}. Choose a day in between."
        )
    validation_from = chosen - validation_days + 1
    if validation_from <= first:
        raise DatasetError(
            f"the training window {iso_day(first)} to {iso_day(chosen)} has {chosen - first + 1} "
            f"days, of which validation_days = {validation_days} are held out; at least one must "
            "be left to learn from. Choose a later --until or fewer validation_days."
        )
    day = dataset.events["day"].all()
    timed = dataset.events["counter_row"].all() >= 0
    if not (timed & (day >= validation_from) & (day <= chosen)).any():
        raise DatasetError(
            f"the held-out days {iso_day(validation_from)} to {iso_day(chosen)} have no event; "
            "they must have some, for they choose when training stops. Choose another --until or "
            "more validation_days."
        )
    viewers = np.unique(dataset.events["viewer"].all()[timed & (day <= chosen)])
    if len(viewers) < 2:
        raise DatasetError(
            f"the training window has {len(viewers)} viewer; it must have at least 2, since a "
            "view is judged by what other viewers watched. Give a log of more viewers."
        )
    return TrainingWindow(
        first_day=first,
        last_day=chosen,
        validation_from=validation_from,
        day=day,
        timed=timed,
    )


def learnable_objectives(
    dataset: Dataset, training: NDArray[np.bool_]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Say which objectives have both outcomes among the training rows.

    Args:
        dataset: Prepared events.
        training: (E,) bool.

    Returns:
        The objectives to learn, and for each other the reason why it is masked.

    Raises:
        DatasetError: None can be learnt.
    """
    rows = np.flatnonzero(training)
    learnt, masked = [], {}
    for name in OBJECTIVES:
        if name not in dataset.objectives:
            masked[name] = "the log does not say"
            continue
        label = dataset.events[f"label_{name}"].take(rows)
        positive, negative = int((label == 1).sum()), int((label == 0).sum())
        if positive and negative:
            learnt.append(name)
        else:
            lacking = "positive" if not positive else "negative"
            masked[name] = f"no {lacking} outcome in the training window"
    if not learnt:
        raise DatasetError(
            "no objective has both outcomes in the training window; at least one must. "
            f"Reasons: {masked}. Widen the window or check the log's columns."
        )
    return tuple(learnt), masked
