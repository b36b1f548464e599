"""How would simple predictors do on the same rows, with the same state?

    training rows and scored rows of a Dataset  ->  score_baselines  ->  {baseline: Scored}

- A baseline reads the counters of the form the mode allows, frozen where the mode freezes them, and
  learns from the training window alone.

Reads `baselines`, `past_outcomes`, `factorization` and `trees`; is read by `evaluate`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.evaluation.baselines import (
    RateSettings,
    counted_objectives,
    counter_features,
    drawn_rate,
    every_order,
    popularity_rate,
    surface_rates,
    training_rate,
    video_rate,
    viewer_surface_rate,
)
from skipwise.evaluation.factorization import binned, fm_baseline
from skipwise.evaluation.past_outcomes import Moments, count_past
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.trees import lightgbm_baseline
from skipwise.features.dataset import Dataset
from skipwise.features.view import View
from skipwise.progress import SILENT, Progress
from skipwise.settings import check_choice

Probabilities = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Yardstick:
    """What every baseline is given."""

    dataset: Dataset
    """Whose rows are learnt from."""
    state: Dataset
    """The same, with the state the rows are scored with."""
    training_rows: NDArray[np.int64]
    rows: NDArray[np.int64]
    """(N,) scored event rows, rising."""
    view: View
    """Which outcomes the state may hold."""
    objectives: tuple[str, ...]

    def labels(self, objective: str) -> NDArray[np.int8]:
        """Return the training rows' labels."""
        found: NDArray[np.int8] = self.dataset.events[f"label_{objective}"].take(self.training_rows)
        return found

    def counters(self, dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (rows, K) counters of the allowed form."""
        column = (
            dataset.counters_event if self.view.counter_form == "event" else dataset.counters_day
        )
        found: NDArray[np.float32] = column.take(dataset.events["counter_row"].take(rows))
        return found

    def surfaces(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (rows,) surface codes."""
        return self.dataset.events["surface"].take(rows).astype(np.int64)

    @property
    def learnable(self) -> tuple[str, ...]:
        """Objectives with both outcomes among the training rows."""
        found = []
        for name in self.objectives:
            labels = self.labels(name)
            if (labels == 1).any() and (labels == 0).any():
                found.append(name)
        return tuple(found)

    @property
    def counted(self) -> tuple[str, ...]:
        """Objectives that counters answer."""
        counted = counted_objectives(self.dataset.counter_names)
        return tuple(name for name in self.learnable if name in counted)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Objectives whose past is counted from the labels."""
        return tuple(name for name in self.learnable if name not in self.counted)


def score_baselines(
    yardstick: Yardstick, names: tuple[str, ...], scored: Scored, progress: Progress = SILENT
) -> dict[str, Scored]:
    """Score the rows by each baseline.

    Args:
        yardstick: The rows and their state.
        names: Of `BASELINES`.
        scored: The model's own scores of the same rows, whose outcomes and groups are kept.
        progress: Who is told.

    Raises:
        SettingError: An unknown baseline, or LightGBM is not installed.
    """
    found = {}
    with progress.task("baselines", total=len(names), unit="baselines") as task:
        for name in names:
            check_choice("baselines", name, BASELINES)
            found[name] = dataclasses.replace(
                scored,
                probabilities=BASELINES[name](yardstick),
                expected_watch_s=np.full(scored.num_rows, np.nan),
            )
            task.advance(note=name)
    return found


def available_baselines() -> tuple[str, ...]:
    """Name the baselines measured unless others are asked for: trees need `[baselines]`."""
    try:
        import lightgbm  # noqa: F401, PLC0415 - asked for only here, since it is an extra
    except (ImportError, OSError):  # installed, but a library of the system is missing
        return tuple(name for name in USUAL if name != "lightgbm")
    return USUAL


def _video_rate(yardstick: Yardstick) -> Probabilities:
    counters = yardstick.counters(yardstick.state, yardstick.rows)
    found = {
        name: video_rate(
            counters,
            yardstick.dataset.counter_names,
            name,
            overall_rate=training_rate(yardstick.labels(name)),
        )
        for name in yardstick.counted
    }
    videos = yardstick.dataset.events["video"].all().astype(np.int64)
    for name in yardstick.uncounted:
        overall = training_rate(yardstick.labels(name))
        found[name] = drawn_rate(*_past(yardstick, name, videos), overall)
    return found


def _viewer_surface_rate(yardstick: Yardstick) -> Probabilities:
    counters = yardstick.counters(yardstick.state, yardstick.rows)
    surfaces = yardstick.surfaces(yardstick.rows)
    found = {}
    for name in yardstick.counted:
        found[name] = viewer_surface_rate(
            counters,
            yardstick.dataset.counter_names,
            name,
            surfaces=surfaces,
            rate_of_surface=_surface_rates(yardstick, name),
            overall_rate=training_rate(yardstick.labels(name)),
        )
    events = yardstick.dataset.events
    viewers = events["viewer"].all().astype(np.int64)
    keys = viewers * _num_surfaces(yardstick) + events["surface"].all()
    for name in yardstick.uncounted:
        usual = _surface_rates(yardstick, name)[surfaces]
        found[name] = drawn_rate(*_past(yardstick, name, keys), usual)
    return found


def _past(
    yardstick: Yardstick, objective: str, keys: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (rows,) positives and outcomes of each row's key that its view may know."""
    moments = Moments.of(yardstick.dataset, yardstick.rows, yardstick.view)
    labels = yardstick.dataset.events[f"label_{objective}"].all()
    return count_past(labels, keys, keys[yardstick.rows], moments)


def _surface_rates(yardstick: Yardstick, objective: str) -> NDArray[np.float64]:
    """Return (surfaces,) rates of the training days, the overall one where there was none."""
    labels = yardstick.labels(objective)
    known = surface_rates(yardstick.surfaces(yardstick.training_rows), labels, RateSettings())
    rates = np.full(max(_num_surfaces(yardstick), len(known)), training_rate(labels))
    rates[: len(known)] = known
    return rates


def _num_surfaces(yardstick: Yardstick) -> int:
    """Count the surfaces, the unknown one first."""
    return len(yardstick.dataset.description["surfaces"]) + 1


def _random(yardstick: Yardstick) -> Probabilities:
    return {
        name: every_order(len(yardstick.rows), overall_rate=training_rate(yardstick.labels(name)))
        for name in yardstick.learnable
    }


def _popularity(yardstick: Yardstick) -> Probabilities:
    """Predict each objective's rate among training rows of like popularity: a count of views."""
    views = yardstick.dataset.counter_names.index("video.views")
    shown = [
        yardstick.counters(dataset, rows)[:, views].astype(np.float64)
        for dataset, rows in (
            (yardstick.dataset, yardstick.training_rows),
            (yardstick.state, yardstick.rows),
        )
    ]
    return {
        name: popularity_rate(shown[0], yardstick.labels(name), shown[1])
        for name in yardstick.learnable
    }


_FM_BINNED_KEYS = ("video.", "author.", "topic.", "viewer.", "viewer_surface.", "viewer_topic.")
"""Counters whose rates are fields of the factorization machine."""


def _fm(yardstick: Yardstick) -> Probabilities:
    """Factorise viewer, video, author, surface, hour, duration and binned rates."""
    order = np.argsort(
        yardstick.dataset.events["shown_at_ms"].take(yardstick.training_rows), kind="stable"
    )
    training_rows = yardstick.training_rows[order]
    train_ids, test_ids = (
        _fm_ids(yardstick.dataset, rows) for rows in (training_rows, yardstick.rows)
    )
    train_rates, names = _tree_columns(yardstick, yardstick.dataset, training_rows)
    test_rates, _ = _tree_columns(yardstick, yardstick.state, yardstick.rows)
    pairs = [
        binned(train_rates[:, place].astype(np.float64), test_rates[:, place].astype(np.float64))
        for place, name in enumerate(names)
        if name.startswith(_FM_BINNED_KEYS)
    ]
    train = np.column_stack([*train_ids, *(codes for codes, _ in pairs)])
    test = np.column_stack([*test_ids, *(codes for _, codes in pairs)])
    return {
        name: fm_baseline(train, yardstick.labels(name)[order], test, seed=0)
        for name in yardstick.learnable
    }


def _fm_ids(dataset: Dataset, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return (rows,) codes from 1 of viewer, video, author, surface, hour, duration bucket."""
    video = dataset.events["video"].take(rows).astype(np.int64)
    author = np.asarray(dataset.videos["author"]).astype(np.int64)[video]
    codes = {
        name: dataset.events[name].take(rows).astype(np.int64)
        for name in ("viewer", "surface", "hour", "duration_bucket")
    }
    return [
        codes["viewer"] + 1,
        video + 1,
        author,
        codes["surface"],
        codes["hour"] + 1,
        codes["duration_bucket"],
    ]


def _lightgbm(yardstick: Yardstick) -> Probabilities:
    training = _tree_features(yardstick, yardstick.dataset, yardstick.training_rows)
    test = _tree_features(yardstick, yardstick.state, yardstick.rows)
    categorical = [training.shape[1] - len(_TREE_COLUMNS)]
    return {
        name: lightgbm_baseline(
            training, yardstick.labels(name), test, seed=0, categorical=categorical
        )
        for name in yardstick.learnable
    }


_TREE_COLUMNS = ("surface", "hour", "duration_s")


def _tree_features(
    yardstick: Yardstick, dataset: Dataset, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return (rows, F): views and rates of every counter, and surface, hour, duration last."""
    return _tree_columns(yardstick, dataset, rows)[0]


def _tree_columns(
    yardstick: Yardstick, dataset: Dataset, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the features of trees and their names."""
    return counter_features(
        yardstick.counters(dataset, rows),
        dataset.counter_names,
        overall_rates={name: training_rate(yardstick.labels(name)) for name in yardstick.counted},
        extra={name: dataset.events[name].take(rows).astype(np.float64) for name in _TREE_COLUMNS},
    )


BASELINES: Mapping[str, Callable[[Yardstick], Probabilities]] = {
    "video_rate": _video_rate,
    "viewer_surface_rate": _viewer_surface_rate,
    "random": _random,
    "popularity": _popularity,
    "fm": _fm,
    "lightgbm": _lightgbm,
}
"""Name -> how it predicts."""
USUAL = ("video_rate", "viewer_surface_rate", "random", "lightgbm")
"""Measured beside every evaluation; the others when they are named."""
