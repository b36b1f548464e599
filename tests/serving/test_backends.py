"""One request gives the numbers that evaluation gives, whoever runs the network."""

import dataclasses

import numpy as np
import pytest

from skipwise.features.dataset import Dataset
from skipwise.features.view import View
from skipwise.model.encoder_settings import KINDS
from skipwise.model.request import Array, Candidates, History
from skipwise.serving.backends import Backend, Ranked, eager_backend
from tests.models import LIVE, SHORT, Untrained, stacked, untrained
from tests.serving.asked import Asked, asked_one_by_one

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = {
    "curve": (SHORT,),
    "two blocks": (SHORT, "model.encoder.blocks=2"),
    "messages, one query, no feedback": (
        SHORT,
        "model.objectives.relation=messages",
        "model.encoder.two_queries=false",
        "model.inputs.use_feedback=false",
    ),
    **{kind: (SHORT, f"model.encoder.kind={kind}") for kind in KINDS if kind != "feedback"},
    "positives, duration quantiles": (
        SHORT,
        "model.encoder.past=positives",
        "model.objectives.relation=messages",
        "model.objectives.watch=d2q",
    ),
}


def answers(backend: Backend, asked: list[Asked]) -> Array:
    """Put the answers to many requests side by side, (rows, objectives + 1)."""
    return np.concatenate([numbers(answer(backend, each)) for each in asked])


def answer(backend: Backend, asked: Asked) -> Ranked:
    return backend.rank(backend.encode(asked.history), asked.request, asked.candidates)


def numbers(ranked: Ranked) -> Array:
    return np.column_stack([ranked.logits, np.log1p(ranked.expected_watch_s)])


def offline(model: Untrained, view: View, asked: list[Asked]) -> Array:
    predicted = model.predict(model.plan(view))
    rows = np.concatenate([each.row for each in asked])
    return stacked(predicted)[np.searchsorted(predicted.row, rows)]


@pytest.mark.parametrize("words", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("view", [View(), LIVE], ids=["daily", "live"])
def test_a_request_gives_what_evaluation_gives(
    small_dataset: Dataset, view: View, words: tuple[str, ...]
) -> None:
    model = untrained(small_dataset, *words)
    asked = asked_one_by_one(model, view, every=20)
    assert {0, 1} <= {min(len(each.history), 1) for each in asked}, "with a past and without"
    expected = offline(model, view, asked)
    np.testing.assert_allclose(answers(eager_backend(model.model), asked), expected, atol=1e-5)
    assert expected.std(axis=0).min() > 1e-2, "the model says different things"


def test_candidates_of_one_request_do_not_know_each_other(small_dataset: Dataset) -> None:
    model = untrained(small_dataset, SHORT)
    asked = asked_one_by_one(model, LIVE, every=50)
    backend, first = eager_backend(model.model), asked[-1]
    together = Candidates(
        **{
            field.name: np.concatenate([getattr(each.candidates, field.name) for each in asked])
            for field in dataclasses.fields(Candidates)
        }
    )
    encoded = backend.encode(first.history)
    alone = [numbers(backend.rank(encoded, first.request, each.candidates)) for each in asked]
    np.testing.assert_allclose(
        numbers(backend.rank(encoded, first.request, together)), np.concatenate(alone), atol=1e-5
    )


def test_no_candidate_is_answered_with_nothing(small_dataset: Dataset) -> None:
    model = untrained(small_dataset, SHORT)
    asked = asked_one_by_one(model, LIVE, every=100)[0]
    none = Candidates(
        **{
            field.name: getattr(asked.candidates, field.name)[:0]
            for field in dataclasses.fields(Candidates)
        }
    )
    backend = eager_backend(model.model)
    ranked = backend.rank(backend.encode(asked.history), asked.request, none)
    assert ranked.logits.shape == (0, len(model.model.objectives))
    assert ranked.expected_watch_s.shape == (0,)


def test_what_lies_further_back_than_the_reach_changes_nothing(small_dataset: Dataset) -> None:
    model = untrained(small_dataset, SHORT)
    asked = max(asked_one_by_one(model, LIVE), key=lambda each: len(each.history))
    backend = eager_backend(model.model)
    reach = backend.reach
    longer = _twice(asked.history, older=reach)
    assert len(longer) > reach
    np.testing.assert_array_equal(
        backend.encode(longer).states, backend.encode(_cut(longer, reach)).states
    )


def _twice(history: History, older: int) -> History:
    """Put `older` events before a history."""
    places = np.concatenate([np.zeros(older, dtype=np.int64), np.arange(len(history))])
    return _taken(history, places)


def _cut(history: History, number: int) -> History:
    return _taken(history, np.arange(len(history) - number, len(history)))


def _taken(history: History, places: Array) -> History:
    return History(
        **{
            field.name: getattr(history, field.name)[places]
            for field in dataclasses.fields(History)
        }
    )
