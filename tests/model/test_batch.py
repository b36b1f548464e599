"""A batch has something to score and somewhere to read, or is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.features.stretches import read_stretches
from skipwise.features.view import View
from skipwise.model.batch import to_batch
from tests.models import logits_of, untrained
from tests.worlds import days_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_batch_of_viewers_without_a_past_is_scored_and_trained_alike(
    small_dataset: Dataset,
) -> None:
    """On the first day nobody has seen anything that is known: one event of padding each."""
    model = untrained(small_dataset)
    batch = model.batch(View(), days_of(small_dataset) == small_dataset.days[0])
    assert batch.token_valid.shape[1] == 1
    assert not batch.token_valid.any()
    scored = logits_of(model, batch)
    assert scored.isfinite().all()
    assert scored.std(0).min() > 0, "candidates differ without a past too"
    trained = torch.stack(list(model.model(batch).predictions.logits.values()), 1)
    torch.testing.assert_close(trained, scored, rtol=1e-4, atol=1e-5)
    trained.sum().backward()  # type: ignore[no-untyped-call]
    no_past = model.model.get_parameter("reader.no_past").grad
    assert no_past is not None
    assert no_past.isfinite().all()
    assert no_past.abs().max() > 0


def test_a_batch_without_candidates_or_events_is_refused(small_dataset: Dataset) -> None:
    model = untrained(small_dataset)
    batch = model.batch(View())
    with pytest.raises(ValueError, match=r"stretches of 0 events; it must have at least one"):
        dataclasses.replace(batch, token_video=batch.token_video[:, :0])
    with pytest.raises(ValueError, match=r"has 0 candidates and .* Leave out a batch without"):
        dataclasses.replace(batch, prefix=batch.prefix[:0])
    nothing = read_stretches(model.dataset, model.plan(View()), np.empty(0, np.int64))
    with pytest.raises(ValueError, match=r"0 candidates and 0 stretches"):
        to_batch(nothing, model.catalogue)
