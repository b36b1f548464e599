import itertools

import ibis
import numpy as np
import pyarrow as pa
import pytest

from skipwise.labels.feedback import (
    GROUP_OF,
    LIKED_LABELS,
    Feedback,
    Group,
    feedback_expression,
    feedback_states,
)
from skipwise.labels.watch import LABELS
from tests.labels.label_logs import quiet_connection


def state_of(*true_labels: str, watch_known: bool = True) -> Feedback:
    labels = {name: np.array([name in true_labels], dtype=np.int8) for name in LABELS}
    return Feedback(int(feedback_states(labels, np.array([watch_known]))[0]))


def test_the_strongest_word_wins() -> None:
    ladder = ["glance", "effective", "long", "like", "negative"]
    words = ["GLANCE", "EFFECTIVE", "LONG", "LIKED", "NEGATIVE"]
    for place, word in enumerate(words):
        assert state_of(*ladder[: place + 1]).name == word
        assert state_of(ladder[place]).name == word


@pytest.mark.parametrize("label", LIKED_LABELS)
def test_any_explicit_approval_is_a_like(label: str) -> None:
    assert state_of("long", label) is Feedback.LIKED


@pytest.mark.parametrize("label", ["finished", "complete", "click"])
def test_other_labels_say_nothing_of_their_own(label: str) -> None:
    assert state_of(label) is Feedback.PARTIAL


def test_a_watch_of_unknown_length_is_unknown_unless_the_source_said_more() -> None:
    assert state_of(watch_known=False) is Feedback.UNKNOWN
    assert state_of("long", watch_known=False) is Feedback.LONG
    assert state_of("like", watch_known=False) is Feedback.LIKED
    assert state_of(watch_known=True) is Feedback.PARTIAL


def test_words_fold_into_three_groups() -> None:
    groups = {state.name: Group(GROUP_OF[state]).name for state in Feedback}
    assert groups == {
        "PAD": "NEUTRAL",
        "UNKNOWN": "NEUTRAL",
        "GLANCE": "NEG",
        "PARTIAL": "NEUTRAL",
        "EFFECTIVE": "POS",
        "LONG": "POS",
        "LIKED": "POS",
        "NEGATIVE": "NEG",
    }


def test_numbers_on_disk_do_not_move() -> None:
    assert [state.name for state in Feedback] == [
        "PAD",
        "UNKNOWN",
        "GLANCE",
        "PARTIAL",
        "EFFECTIVE",
        "LONG",
        "LIKED",
        "NEGATIVE",
    ]
    assert [int(state) for state in Feedback] == list(range(8))
    assert (Group.NEUTRAL, Group.NEG, Group.POS) == (0, 1, 2)


def test_the_data_engine_says_the_same_for_every_combination() -> None:
    varied = ("negative", "like", "share", "long", "effective", "glance")
    grid = np.array(list(itertools.product((-1, 0, 1), repeat=len(varied))), dtype=np.int8)
    grid = np.concatenate([grid, grid])
    watch_known = np.arange(len(grid)) < len(grid) // 2
    fixed = {name: np.full(len(grid), -1, dtype=np.int8) for name in LABELS}
    labels = fixed | {name: grid[:, place] for place, name in enumerate(varied)}
    columns = {f"label_{name}": label for name, label in labels.items()}
    table = pa.table(columns | {"watch_s": pa.array(np.ones(len(grid)), mask=~watch_known)})

    found = quiet_connection().to_pyarrow(feedback_expression(ibis.memtable(table)))

    assert found.to_pylist() == feedback_states(labels, watch_known).tolist()
    assert set(found.to_pylist()) == set(range(1, 8))
