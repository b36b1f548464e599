"""Retrieval is taught what it should be: two-sided, from the right sample, beside the ranker."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skipwise.evaluation.retrieval import evaluate_retrieval
from skipwise.evaluation.scorecard import EvaluationSettings
from skipwise.features.dataset import Dataset
from skipwise.features.view import View
from skipwise.model.request import Array
from skipwise.training.co_watching import co_watched_vectors
from skipwise.training.finding import FindingTeacher
from tests.models import LIVE, untrained
from tests.training.trained import short_run
from tests.worlds import days_of, with_events

pytestmark = pytest.mark.usefixtures("one_thread")


def halves(dataset: Dataset, *, shuffled: bool) -> Dataset:
    """Let every viewer watch the videos of one half of the catalogue and skip the others.

    What was shown to whom is drawn anew and evenly, for the world's own exposures tell tastes too,
    and where a few videos make up most views popularity alone finds nearly all that can be found.
    """
    random = np.random.default_rng(0)
    video, viewer = (np.array(dataset.events[name].all()) for name in ("video", "viewer"))
    video = random.integers(dataset.videos.num_rows, size=len(video), dtype=video.dtype)
    likes = (video % 2 == viewer % 2).astype(np.int8)
    if shuffled:
        likes = random.permutation(likes)
    return with_events(
        dataset,
        video=lambda _: video,
        label_effective=lambda _: likes,
        label_glance=lambda _: 1 - likes,
        feedback=lambda _: np.where(likes == 1, 4, 2),
    )


def ahead_of_popularity(dataset: Dataset, out: Path, *words: str) -> tuple[float, float]:
    """Train on all but the last two days; return the interval of recall@100 ahead of popularity."""
    until = dataset.days[1] - 2
    words = ("refit=false", "loss.retrieval=1", "passes_at_most=2", "tokens_per_batch=4096", *words)
    run = short_run(dataset, out, *words, last_day=until)
    found = evaluate_retrieval(
        run,
        dataset,
        np.flatnonzero(days_of(dataset) > until),
        View(),
        last_training_day=until,
        settings=EvaluationSettings(bootstrap_samples=100, retrieval_at=(100,)),
    )
    ahead = found["at"]["100"]["ahead"]["popularity"]
    return ahead["low"], ahead["high"]


@pytest.mark.slow
def test_who_watches_which_half_is_found(planted_dataset: Dataset, tmp_path: Path) -> None:
    low, _ = ahead_of_popularity(halves(planted_dataset, shuffled=False), tmp_path / "RUN")
    assert low > 0.2  # all of the viewer's half before any of the other would be .3 ahead


@pytest.mark.slow
def test_nothing_is_found_where_views_are_shuffled(
    planted_dataset: Dataset, tmp_path: Path
) -> None:
    low, high = ahead_of_popularity(halves(planted_dataset, shuffled=True), tmp_path / "RUN")
    assert low < 0.02
    assert high > -0.03


def teacher_of(dataset: Dataset, sampled: int = 10) -> tuple[FindingTeacher, torch.nn.Module]:
    model = untrained(dataset)
    teacher = FindingTeacher(
        dataset,
        model.catalogue,
        np.arange(dataset.num_events),
        last_day=dataset.days[1],
        sampled=sampled,
        glances=0.3,
    )
    return teacher, model.model


def test_what_a_viewer_was_shown_elsewhere_is_no_example_of_the_unwatched(
    small_dataset: Dataset,
) -> None:
    model = untrained(small_dataset)
    teacher, _ = teacher_of(small_dataset)
    batch = model.batch(LIVE)
    sample = torch.from_numpy(teacher._sample(batch))
    asked = torch.arange(0, len(batch.row), 7)
    others = teacher._own_others(batch, sample, asked)
    video, viewer = (small_dataset.events[name].all() for name in ("video", "viewer"))
    for place, row in enumerate(batch.row[asked.numpy()]):
        shown = np.unique(video[viewer == viewer[row]])
        expected = np.isin(sample.numpy(), shown) & (sample.numpy() != video[row])
        np.testing.assert_array_equal(others[place].numpy(), expected)


def test_the_loss_teaches_the_head_and_the_encoder_or_the_head_alone(
    small_dataset: Dataset,
) -> None:
    for shares in (True, False):
        model = untrained(small_dataset, f"model.retrieval.shares={str(shares).lower()}")
        teacher, _ = teacher_of(small_dataset)
        batch = model.batch(LIVE)
        teacher.loss(model.model, model.model(batch), batch).backward()  # type: ignore[no-untyped-call]
        assert model.model.retrieval.viewer[0].weight.grad is not None
        taught = model.model.inputs.feedback.weight.grad
        assert (taught is not None and bool(taught.abs().sum() > 0)) is shares


def test_videos_watched_by_the_same_viewers_have_like_vectors(planted_dataset: Dataset) -> None:
    dataset = halves(planted_dataset, shuffled=False)
    vectors = co_watched_vectors(dataset, np.arange(dataset.num_events), 8, seed=0)
    same, other = _products(vectors)
    assert same > other + 0.3


def test_shuffled_views_make_no_videos_alike(planted_dataset: Dataset) -> None:
    dataset = halves(planted_dataset, shuffled=True)
    same, other = _products(co_watched_vectors(dataset, np.arange(dataset.num_events), 8, seed=0))
    assert same == pytest.approx(other, abs=0.05)


def _products(vectors: Array) -> tuple[float, float]:
    """Return the mean product of videos of one half, and of different halves."""
    products = vectors @ vectors.T
    np.fill_diagonal(products, np.nan)
    code = np.arange(len(vectors))
    alike = code[:, None] % 2 == code[None, :] % 2
    return float(np.nanmean(products[alike])), float(np.nanmean(products[~alike]))
