"""The form that is exported says what the reference says, in two thirds of the operations."""

import dataclasses

import numpy as np
import pytest
import torch

from skipwise.features.dataset import Dataset
from skipwise.model import short_reader
from skipwise.model.forms import RankForm
from skipwise.model.request import Array, Candidates
from skipwise.model.short_rank import ShortRankForm, rank_form
from skipwise.serving.backends import Backend, backend_of, eager_backend
from tests.models import LIVE, SHORT, Untrained, untrained
from tests.serving.asked import Asked, asked_one_by_one
from tests.serving.test_backends import numbers

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = {
    "as the preset has it": (SHORT,),
    "cuts of the curve": (SHORT, "model.objectives.relation=curve"),
    "independent": (SHORT, "model.objectives.relation=independent"),
    "four heads, more experts": (
        SHORT,
        "model.encoder.heads=4",
        "model.objectives.shared_experts=3",
        "model.objectives.group_experts=2",
    ),
    "no feedback": (SHORT, "model.inputs.use_feedback=false"),
    "positives alone are read": (SHORT, "model.encoder.past=positives"),
    "not encoded": (SHORT, "model.encoder.encode=false"),
}
OTHERS = {
    "one query": "model.encoder.two_queries=false",
    "another encoder": "model.encoder.kind=dfar",
    "another predictor": "model.objectives.predictor=mmoe",
    "no counters": "model.inputs.use_counters=false",
    "no context": "model.inputs.use_context=false",
    "no skips": "model.inputs.use_skips=false",
}


def short_backend(model: Untrained) -> Backend:
    """Rank by the short form, in torch."""
    form = rank_form(model.model)
    assert isinstance(form, ShortRankForm)
    form.eval()

    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        with torch.inference_mode():
            return tuple(each.numpy() for each in form(*map(torch.from_numpy, arrays)))

    eager = eager_backend(model.model)
    return backend_of(model.model, "onnx", {**eager.runners, "rank": run})


def together(asked: list[Asked]) -> Candidates:
    """Put the candidates of many requests into one."""
    return Candidates(
        **{
            field.name: np.concatenate([getattr(each.candidates, field.name) for each in asked])
            for field in dataclasses.fields(Candidates)
        }
    )


def assert_the_same(model: Untrained) -> None:
    """Ask both for candidates that share videos, authors and topics with the past, or do not."""
    asked = asked_one_by_one(model, LIVE, every=40)
    pasts = {len(each.history): each for each in asked}
    short, eager, candidates = short_backend(model), eager_backend(model.model), together(asked)
    assert 0 in pasts
    assert max(pasts) >= 7, "as many as are read, or more"
    for each in pasts.values():
        said, expected = (
            numbers(backend.rank(backend.encode(each.history), each.request, candidates))
            for backend in (short, eager)
        )
        np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-5)
        assert expected.std(axis=0).min() > 1e-2, "the model says different things"


@pytest.mark.parametrize("words", SHAPES.values(), ids=SHAPES)
def test_it_says_what_the_reference_says(small_dataset: Dataset, words: tuple[str, ...]) -> None:
    assert_the_same(untrained(small_dataset, *words))


@pytest.mark.parametrize(("bits", "words"), [(2, 4), (2, 1)], ids=["many words", "too many"])
def test_topics_that_do_not_fit_one_word(
    small_dataset: Dataset, bits: int, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_reader, "_BITS", bits)
    monkeypatch.setattr(short_reader, "_WORDS_AT_MOST", words)
    model = untrained(small_dataset, SHORT)
    assert 2 < model.model.sizes.topics - 2 <= 8
    assert_the_same(model)


@pytest.mark.parametrize("word", OTHERS.values(), ids=OTHERS)
def test_what_it_cannot_say_is_exported_as_it_is(small_dataset: Dataset, word: str) -> None:
    assert isinstance(rank_form(untrained(small_dataset, SHORT, word).model), RankForm)
