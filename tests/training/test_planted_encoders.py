"""Every encoder, two-sided: a taste seen only through skips is learnt by whoever reads skips.

Read with positives alone, the same encoders score chance: nothing else in this world tells the
taste. That is the finding of the input ablation (docs/results.md) in its purest form.
"""

from pathlib import Path

import numpy as np
import pytest

from skipwise.features.dataset import Dataset
from skipwise.model.encoder_settings import KINDS
from skipwise.simulation.world import WorldSettings
from tests.training.test_planted_signals import ENCODER_ALONE, glance_auc
from tests.worlds import OUTCOMES, prepared_world, with_events

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

BASELINES = [kind for kind in KINDS if kind not in {"feedback", "none"}]
QUICK = (*ENCODER_ALONE, "tokens_per_batch=512")
LEARNING = (*QUICK, "passes_at_most=6", "patience=6")
CHANCE = (*QUICK, "passes_at_most=4", "patience=2")
EASY_WORLD = WorldSettings(
    viewers=160,
    videos=120,
    authors=40,
    topics=4,
    days=6,
    views_per_viewer_day=12.0,
    activity_spread=0.2,
    random_share=0.0,
    skip_only=True,
    seed=1,
)
"""A taste shows through skips alone; the best possible AUC is .85."""


@pytest.fixture(scope="module")
def easy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared_world(tmp_path_factory.mktemp("easy"), EASY_WORLD)


@pytest.fixture(scope="module")
def dealt_out_dataset(easy_dataset: Dataset) -> Dataset:
    """The same impressions, their outcomes dealt out anew among them."""
    dealt = np.random.default_rng(0).permutation(easy_dataset.num_events)
    told = (*OUTCOMES, *(name for name in easy_dataset.events if name.startswith("label_")))
    return with_events(easy_dataset, **dict.fromkeys(told, lambda values: values[dealt]))


@pytest.mark.parametrize("kind", BASELINES)
def test_given_the_skips_it_learns_the_taste(
    easy_dataset: Dataset, tmp_path: Path, kind: str
) -> None:
    words = (*LEARNING, f"model.encoder.kind={kind}", "model.encoder.past=all")
    assert 0.75 < glance_auc(easy_dataset, tmp_path / "RUN", *words) < 0.88


@pytest.mark.parametrize("kind", [kind for kind in BASELINES if kind != "dfar"])
def test_given_positives_alone_it_cannot(easy_dataset: Dataset, tmp_path: Path, kind: str) -> None:
    """Its own past, as published: what was watched. 3,900 test rows: .5 give or take .03."""
    words = (*CHANCE, f"model.encoder.kind={kind}")
    assert glance_auc(easy_dataset, tmp_path / "RUN", *words) < 0.58


@pytest.mark.parametrize("kind", BASELINES)
def test_it_learns_nothing_from_shuffled_outcomes(
    dealt_out_dataset: Dataset, tmp_path: Path, kind: str
) -> None:
    words = (*CHANCE, f"model.encoder.kind={kind}", "model.encoder.past=all")
    auc = glance_auc(dealt_out_dataset, tmp_path / "RUN", *words)
    assert auc == pytest.approx(0.5, abs=0.04)
