"""What would counting alone have said?

    counters (N, K), surfaces (N,)   ->  video_rate, viewer_surface_rate  ->  probabilities (N,)
    rate, N                          ->  every_order                     ->  probabilities (N,)

- A baseline reads the very counters the model reads, as of the same moment: nothing later.
- A rate of few outcomes is drawn towards the rate of the training days.
- An objective that is not counted (see `counted_objectives`) is counted from the labels instead:
  `past_outcomes`.

Reads `errors` and `settings`; is read by `evaluate`. Boosted trees are in `trees`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats, Integers, sum_by
from skipwise.evaluation.metrics import Labels
from skipwise.settings import check_choice, check_setting

Counters = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class RateSettings:
    """How much a rate of few outcomes is drawn towards the overall rate."""

    prior_outcomes: float = 20.0
    """The overall rate weighs as much as this many outcomes."""

    def __post_init__(self) -> None:
        check_setting("prior_outcomes", self.prior_outcomes, above=0, at_most=1e6)


def counted_objectives(names: Sequence[str]) -> tuple[str, ...]:
    """Name the objectives that are counted per video.

    Args:
        names: Of the K counters.

    >>> counted_objectives(["video.views", "video.glance_known", "video.glance", "author.views"])
    ('glance',)
    """
    ending = "_known"
    return tuple(
        name.removeprefix("video.").removesuffix(ending)
        for name in names
        if name.startswith("video.") and name.endswith(ending)
    )


def training_rate(labels: Labels) -> float:
    """Measure the share of positives among known labels of the training days.

    Args:
        labels: (N,) -1 unknown, 0, 1.

    Raises:
        DatasetError: No label is known.
    """
    known = labels >= 0
    if not known.any():
        raise DatasetError(
            "No row of the training days has a known label; a rate needs at least one. "
            "Train on more days, or leave the objective out."
        )
    return float(labels[known].mean())


def surface_rates(surfaces: Integers, labels: Labels, settings: RateSettings) -> Floats:
    """Measure each surface's share of positives on the training days.

    Args:
        surfaces: (N,) surface codes, >= 0.
        labels: (N,) -1 unknown, 0, 1.
        settings: How much it is drawn.

    Returns:
        (largest code + 1,) rates, by code.

    Raises:
        DatasetError: No label is known.
    """
    overall = training_rate(labels)
    known = labels >= 0
    num_surfaces = int(surfaces.max(initial=0)) + 1
    positives = sum_by(surfaces[known], num_surfaces, labels[known])
    outcomes = sum_by(surfaces[known], num_surfaces, np.ones(int(known.sum())))
    return drawn_rate(positives, outcomes, overall, settings)


def video_rate(
    counters: Counters,
    names: Sequence[str],
    objective: str,
    *,
    overall_rate: float,
    settings: RateSettings | None = None,
) -> Floats:
    """Predict that a video goes on as it went: `(positives + n0 rate) / (outcomes + n0)`.

    Args:
        counters: (N, K) as of the moment each row is scored at.
        names: Of the K counters.
        objective: One of `counted_objectives(names)`.
        overall_rate: Of the training days, see `training_rate`.
        settings: n0.

    Returns:
        (N,) probabilities.

    Raises:
        SettingError: The objective is not counted.
    """
    positives, outcomes = _counts(counters, names, "video", objective)
    return drawn_rate(positives, outcomes, overall_rate, settings)


def viewer_surface_rate(
    counters: Counters,
    names: Sequence[str],
    objective: str,
    *,
    surfaces: Integers,
    rate_of_surface: Floats,
    overall_rate: float,
    settings: RateSettings | None = None,
) -> Floats:
    """Predict that a viewer goes on as before on this surface, drawn towards the surface's rate.

    Args:
        counters: (N, K) as of the moment each row is scored at.
        names: Of the K counters.
        objective: One of `counted_objectives(names)`.
        surfaces: (N,) surface codes.
        rate_of_surface: By code, see `surface_rates`.
        overall_rate: For surfaces that the training days did not have.
        settings: How much it is drawn.

    Returns:
        (N,) probabilities.

    Raises:
        SettingError: The objective is not counted.
    """
    positives, outcomes = _counts(counters, names, "viewer_surface", objective)
    met = surfaces < len(rate_of_surface)
    usual = np.where(met, rate_of_surface[np.where(met, surfaces, 0)], overall_rate)
    return drawn_rate(positives, outcomes, usual, settings)


def popularity_rate(
    train_views: Floats, train_labels: Labels, test_views: Floats, *, num_bins: int = 20
) -> Floats:
    """Predict that a video is taken as training rows of videos shown about as often were.

    Args:
        train_views: (N,) how often the row's video had been shown.
        train_labels: (N,) -1 unknown, 0, 1.
        test_views: (M,) likewise, of the rows to predict.
        num_bins: At most so many bins of equal mass of the training rows.

    Returns:
        (M,) probabilities: the bin's rate, drawn towards the overall one.

    Raises:
        DatasetError: No label is known.
    """
    overall = training_rate(train_labels)
    edges = np.unique(np.quantile(train_views, np.linspace(0, 1, num_bins + 1)[1:-1]))
    known = train_labels >= 0
    train_bin = np.searchsorted(edges, train_views[known], side="right")
    positives = sum_by(train_bin, len(edges) + 1, train_labels[known])
    outcomes = sum_by(train_bin, len(edges) + 1, np.ones(len(train_bin)))
    rate = drawn_rate(positives, outcomes, overall, RateSettings())
    found: Floats = rate[np.searchsorted(edges, test_views, side="right")]
    return found


def every_order(num_rows: int, *, overall_rate: float) -> Floats:
    """Predict the overall rate for all: every order at once, as ties count half each way.

    One drawn order would have an AUC beside 0.5 and an interval about it, which of few positives
    leaves 0.5 out far oftener than it says.

    Args:
        num_rows: N.
        overall_rate: Of the training days.

    Returns:
        (N,) probabilities, all the same.
    """
    return np.full(num_rows, overall_rate)


def counter_features(
    counters: Counters,
    names: Sequence[str],
    *,
    overall_rates: Mapping[str, float] | None = None,
    extra: Mapping[str, NDArray[np.float64]] | None = None,
    settings: RateSettings | None = None,
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Turn counters into columns for trees: views, then a drawn rate per key and objective.

    Args:
        counters: (N, K) as of the moment each row is scored at.
        names: Of the K counters.
        overall_rates: Objective -> rate of the training days, towards which rates are drawn; 0
            where absent. The same for training and test rows.
        extra: Name -> (N,) further columns, such as surface, hour and duration; NaN where unknown.
        settings: How much rates are drawn.

    Returns:
        (N, F) features and their F names.
    """
    overall_rates, settings = overall_rates or {}, settings or RateSettings()
    columns: dict[str, NDArray[np.float64]] = {}
    for place, name in enumerate(names):
        key, _, counted = name.partition(".")
        if counted == "views":
            columns[name] = counters[:, place].astype(np.float64)
        elif not counted.endswith("_known"):
            positives, outcomes = _counts(counters, names, key, counted)
            overall = overall_rates.get(counted, 0.0)
            columns[f"{name}_rate"] = drawn_rate(positives, outcomes, overall, settings)
    columns |= extra or {}
    return np.column_stack(list(columns.values())).astype(np.float32), tuple(columns)


def _counts(
    counters: Counters, names: Sequence[str], key: str, objective: str
) -> tuple[Floats, Floats]:
    """Find the positives and the outcomes of a key: (N,) each."""
    check_choice("objective", objective, counted_objectives(names))
    places = {name: place for place, name in enumerate(names)}
    positives, outcomes = places[f"{key}.{objective}"], places[f"{key}.{objective}_known"]
    return counters[:, positives].astype(np.float64), counters[:, outcomes].astype(np.float64)


def drawn_rate(
    positives: Floats,
    outcomes: Floats,
    usual: Floats | float,
    settings: RateSettings | None = None,
) -> Floats:
    """Draw a rate of few outcomes towards the usual: `(positives + n0 usual) / (outcomes + n0)`.

    Args:
        positives: (N,) among the outcomes.
        outcomes: (N,) that are known.
        usual: (N,) or one rate, what is expected of no outcome.
        settings: n0.

    Returns:
        (N,) rates, kept in [0, 1] against rounded counts.
    """
    prior = (settings or RateSettings()).prior_outcomes
    rate: Floats = np.clip((positives + prior * usual) / (outcomes + prior), 0.0, 1.0)
    return rate
