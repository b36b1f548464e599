"""What would boosted trees on the same counters have said?

    features (N, F), labels (N,)  ->  lightgbm_baseline  ->  probabilities (M,) of other rows

- The bar on small real data: see docs/log.md. Settings are fixed before the test rows are seen.
- The same seed gives the same trees.

LightGBM is an extra, asked for only when it is needed. Reads `errors` and `settings`; is read by
`evaluate`.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError, SettingError
from skipwise.evaluation.bootstrap import Floats
from skipwise.evaluation.metrics import Labels
from skipwise.settings import check_setting

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeSettings:
    """How the trees are grown."""

    num_trees: int = 250
    learning_rate: float = 0.05
    num_leaves: int = 31
    """Leaves of one tree."""
    min_rows_in_leaf: int = 100
    """Large: rows of one viewer are alike, and leaves must not be one viewer."""
    min_variance_in_leaf: float = 10.0
    """p (1 - p) summed over a leaf's rows: of a rare label, about the positives expected there.
    With fewer, leaves that saw none drift off by a step a tree, and chances come out 1,000 times
    too low."""
    l2: float = 10.0
    """Weight of a leaf's squared output."""
    feature_share: float = 0.7
    """Share of the features each tree may use."""
    num_threads: int = 1

    def __post_init__(self) -> None:
        check_setting("num_trees", self.num_trees, at_least=1, at_most=100_000)
        check_setting("learning_rate", self.learning_rate, above=0, at_most=1)
        check_setting("num_leaves", self.num_leaves, at_least=2, at_most=10_000)
        check_setting("min_rows_in_leaf", self.min_rows_in_leaf, at_least=1)
        check_setting("min_variance_in_leaf", self.min_variance_in_leaf, at_least=0)
        check_setting("l2", self.l2, at_least=0)
        check_setting("feature_share", self.feature_share, above=0, at_most=1)
        check_setting("num_threads", self.num_threads, at_least=1, at_most=1024)


def lightgbm_baseline(
    train_features: Features,
    train_labels: Labels,
    test_features: Features,
    *,
    seed: int,
    settings: TreeSettings | None = None,
    categorical: Sequence[int] = (),
) -> Floats:
    """Train boosted trees on some rows and predict others.

    Args:
        train_features: (N, F) NaN where unknown.
        train_labels: (N,) -1 unknown (left out), 0, 1.
        test_features: (M, F) the same columns.
        seed: Of the columns each tree may use.
        settings: How trees are grown.
        categorical: Columns that hold codes, >= 0, and not amounts.

    Returns:
        (M,) probabilities.

    Raises:
        SettingError: LightGBM is not installed.
        DatasetError: The training rows lack a class, or the columns differ.
    """
    settings = settings or TreeSettings()
    lightgbm = _lightgbm()
    known = train_labels >= 0
    _check(train_features, train_labels[known], test_features)
    parameters: dict[str, Any] = {
        "objective": "binary",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "min_sum_hessian_in_leaf": settings.min_variance_in_leaf,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "num_threads": settings.num_threads,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    rows = lightgbm.Dataset(
        train_features[known],
        label=train_labels[known],
        categorical_feature=list(categorical),
        params={"verbosity": -1},
    )
    trees = lightgbm.train(parameters, rows, num_boost_round=settings.num_trees)
    return np.asarray(
        trees.predict(test_features, num_threads=settings.num_threads), dtype=np.float64
    )


def _lightgbm() -> ModuleType:
    try:
        return importlib.import_module("lightgbm")
    except (ImportError, OSError) as problem:  # OSError: its OpenMP library is not there
        raise SettingError(
            f"LightGBM cannot be used: {problem}. The boosting baseline needs it. "
            "In a clone: pip install '.[baselines]'."
        ) from problem


def _check(train_features: Features, known_labels: Labels, test_features: Features) -> None:
    if train_features.shape[1] != test_features.shape[1]:
        raise DatasetError(
            f"Training rows have {train_features.shape[1]} features and test rows "
            f"{test_features.shape[1]}; both must have the same. Build both from one dataset."
        )
    if not 0 < known_labels.sum() < len(known_labels):
        raise DatasetError(
            f"The training rows hold {int(known_labels.sum())} positives among "
            f"{len(known_labels)} known labels; trees need both classes. Train on more days."
        )
