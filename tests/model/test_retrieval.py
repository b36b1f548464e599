"""The retrieval head: its loss by hand, its vectors blind to the future, its parts apart."""

import math

import numpy as np
import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.model.predict import viewer_vectors
from skipwise.model.retrieval import log_chance, retrieval_loss, sampled_softmax
from skipwise.model.video_vectors import embed_all, retrieval_vectors, vector_width
from tests.models import LIVE, Untrained, untrained
from tests.worlds import days_of, with_other_outcomes, with_other_videos

pytestmark = pytest.mark.usefixtures("one_thread")


def filled(dataset: Dataset, *words: str) -> Untrained:
    """Build a model whose fixed vectors are not zero."""
    model = untrained(dataset, "model.encoder.history_length=7", *words)
    head, index = model.model.retrieval, torch.from_numpy(model.catalogue.video)
    shape = (len(index), head.settings.co_watched)
    head.fill(index, torch.randn(shape, generator=torch.Generator().manual_seed(3)))
    return model


def test_the_softmax_is_over_the_sample_each_weighed_by_its_chance() -> None:
    logits, chance = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([0.5, 1.0, 0.1])
    weighed = [math.exp(1.0) / 0.5, math.exp(2.0) / 1.0, math.exp(0.5) / 0.1]
    found = sampled_softmax(logits, chance.log(), torch.tensor([2]))
    assert found.item() == pytest.approx(math.log(weighed[2] / sum(weighed)), rel=1e-5)


def test_the_loss_finds_effective_views_and_does_not_find_glances() -> None:
    log_share = torch.tensor([math.log(0.2), math.log(0.3), math.log(0.9)])
    effective, glance = torch.tensor([1, 0, -1]), torch.tensor([0, 1, -1])
    found = retrieval_loss(log_share, effective, glance, glances=0.5)
    assert found.item() == pytest.approx(-math.log(0.2) - 0.5 * math.log(1 - 0.3), rel=1e-5)


def test_the_chance_to_be_in_the_sample_is_that_of_a_simulated_one() -> None:
    share = torch.tensor([0.0, 0.01, 0.2])
    expected = [1 - (1 - each) ** 30 * (1 - 0.25) for each in share.tolist()]
    np.testing.assert_allclose(log_chance(share, 30, 0.25).exp(), expected, rtol=1e-5)


def test_a_viewer_vector_knows_no_later_event(small_dataset: Dataset) -> None:
    model = filled(small_dataset)
    last = small_dataset.days[1]
    late = days_of(small_dataset) >= last
    edited = with_other_videos(with_other_outcomes(small_dataset, late), late)
    plan = model.plan(LIVE, days_of(small_dataset) < last)
    before, after = (
        viewer_vectors(model.model, model.catalogue, dataset, plan)
        for dataset in (small_dataset, edited)
    )
    np.testing.assert_array_equal(before, after)
    assert before.std(axis=0).min() > 1e-3, "viewers differ"


def test_a_viewer_vector_reads_the_past(small_dataset: Dataset) -> None:
    model = filled(small_dataset)
    last = small_dataset.days[1]
    early = days_of(small_dataset) < last
    plan = model.plan(LIVE, ~early)
    edited = with_other_outcomes(small_dataset, early)
    before, after = (
        viewer_vectors(model.model, model.catalogue, dataset, plan)
        for dataset in (small_dataset, edited)
    )
    width = model.model.settings.retrieval.width
    assert np.abs(before - after)[:, :width].max() > 1e-3, "the learnt part"
    assert np.abs(before - after)[:, width:].max() > 1e-3, "the fixed part"


def test_requests_are_answered_in_the_order_asked_whatever_the_batch(
    small_dataset: Dataset,
) -> None:
    model = filled(small_dataset)
    plan = model.plan(LIVE, candidates_at_most=5)
    together = viewer_vectors(model.model, model.catalogue, small_dataset, plan)
    apart = viewer_vectors(model.model, model.catalogue, small_dataset, plan, tokens_per_batch=100)
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)


def test_a_video_without_an_id_has_a_vector_from_its_content(small_dataset: Dataset) -> None:
    model = filled(small_dataset)
    model.catalogue.video[:] = 1
    vectors = embed_all(model.model, model.catalogue)
    assert vectors.shape == (small_dataset.videos.num_rows, vector_width(model.model))
    found, width = retrieval_vectors(model.model, vectors), model.model.settings.retrieval.width
    assert found[:, :width].std(axis=0).min() > 1e-4, "content tells them apart"
    np.testing.assert_array_equal(found[:, width:], 0)


def test_the_learnt_part_speaks_for_no_video_by_itself(small_dataset: Dataset) -> None:
    """Centred viewers have the mean 0, and the centre alone is taught where it lies."""
    head = filled(small_dataset).model.retrieval
    width = head.settings.width
    viewers = torch.randn(50, width + head.settings.co_watched, requires_grad=True)
    centred, loss = head.centred(viewers)
    assert centred[:, :width].mean(0).abs().max() < 1e-6
    torch.testing.assert_close(centred[:, width:], viewers[:, width:], rtol=0, atol=0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert viewers.grad is None
    assert head.centre.grad is not None
    step = -head.centre.grad
    assert torch.equal(step.sign(), viewers.detach()[:, :width].mean(0).sign())
