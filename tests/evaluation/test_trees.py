"""Boosted trees: they find what is planted, and not what is shuffled."""

import importlib
import importlib.abc
import sys
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from skipwise.errors import DatasetError, SettingError
from skipwise.evaluation.metrics import auc
from skipwise.evaluation.trees import TreeSettings, lightgbm_baseline
from skipwise.evaluation.yardsticks import available_baselines

SMALL = TreeSettings(num_trees=30, num_leaves=8, min_rows_in_leaf=20)


def planted(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """1,500 rows of 4 columns; two of them say what happens, one in ten is unknown."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(1500, 4)).astype(np.float32)
    label = (features[:, 0] * features[:, 1] + random.normal(size=1500) > 0).astype(np.int8)
    features[:, 2][::10] = np.nan
    return features, label


def test_trees_learn_a_planted_rule_and_not_a_shuffled_one() -> None:
    train, label = planted(0)
    test, truth = planted(1)
    shuffled = np.random.default_rng(2).permutation(label)
    learnt = lightgbm_baseline(train, label, test, seed=0, settings=SMALL)
    chance = lightgbm_baseline(train, shuffled, test, seed=0, settings=SMALL)
    assert auc(truth, learnt) > 0.7
    assert auc(truth, chance) == pytest.approx(0.5, abs=0.05)


def test_the_chances_of_a_rare_label_keep_their_level() -> None:
    """One in 500, told by nothing: a bar that says a hundredth of it would be no bar."""
    random = np.random.default_rng(0)
    train, test = random.normal(size=(2, 20_000, 4)).astype(np.float32)
    label = (random.random(20_000) < 1 / 500).astype(np.int8)

    def level(**words: float) -> float:
        settings = TreeSettings(num_trees=250, **words)  # type: ignore[arg-type]
        chances = lightgbm_baseline(train, label, test, seed=0, settings=settings)
        return float(chances.mean() / label.mean())

    assert 0.8 < level() < 1.25
    assert level(min_variance_in_leaf=0.0, l2=0.0) < 0.5


def test_unknown_labels_teach_nothing() -> None:
    train, label = planted(0)
    gaps = np.where(np.arange(1500) < 300, -1, label).astype(np.int8)
    with_gaps = lightgbm_baseline(train, gaps, train, seed=0, settings=SMALL)
    without = lightgbm_baseline(train[300:], label[300:], train, seed=0, settings=SMALL)
    np.testing.assert_array_equal(with_gaps, without)
    assert not np.array_equal(
        with_gaps, lightgbm_baseline(train, label, train, seed=0, settings=SMALL)
    )


def test_the_same_seed_grows_the_same_trees_and_another_others() -> None:
    train, label = planted(0)
    first, again, other = (
        lightgbm_baseline(train, label, train, seed=seed, settings=SMALL) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_class_and_other_columns_are_refused() -> None:
    train, label = planted(0)
    with pytest.raises(DatasetError, match="0 positives among 1500 known labels"):
        lightgbm_baseline(train, np.zeros_like(label), train, seed=0)
    with pytest.raises(DatasetError, match="4 features and test rows 3"):
        lightgbm_baseline(train, label, train[:, :3], seed=0)


def test_without_lightgbm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", absent)
    train, label = planted(0)
    with pytest.raises(
        SettingError, match=r"LightGBM cannot be used.*pip install '\.\[baselines\]'"
    ):
        lightgbm_baseline(train, label, train, seed=0)


@pytest.mark.parametrize(
    "problem",
    [
        ImportError("No module named 'lightgbm'"),
        OSError("libgomp.so.1: cannot open shared object file: No such file or directory"),
    ],
    ids=["absent", "broken"],
)
def test_what_cannot_be_loaded_is_not_measured_unasked(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, *_: object) -> None:
            if fullname == "lightgbm":
                raise problem

    assert "lightgbm" in available_baselines()
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert available_baselines() == ("video_rate", "viewer_surface_rate", "random")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="learning_rate = 0, must be > 0"):
        TreeSettings(learning_rate=0)
