"""What did the viewer answer? One word per event, for the encoder's input.

    labels (N,) each  ->  feedback_states (numpy) or feedback_expression (Ibis)  ->  Feedback (N,)

- The strongest word wins: negative > liked > long > effective > glance > partial.
- PARTIAL is a watch of known length that is none of these; UNKNOWN an outcome that says nothing.
- GROUP_OF folds the words into the encoder's three: neutral, negative, positive.

Reads labels; is read by `bulk`, `live` and the model's encoder.
"""

import enum
from collections.abc import Mapping

import ibis
import ibis.expr.types as ir
import numpy as np
from numpy.typing import NDArray

from skipwise.labels.watch import Label

LIKED_LABELS: tuple[str, ...] = ("like", "follow", "comment", "share")
"""Any of these makes an event LIKED."""


class Feedback(enum.IntEnum):
    """A viewer's answer to one impression."""

    PAD = 0
    """No event: fills up a batch."""
    UNKNOWN = 1
    GLANCE = 2
    PARTIAL = 3
    EFFECTIVE = 4
    LONG = 5
    LIKED = 6
    NEGATIVE = 7


class Group(enum.IntEnum):
    """What an answer means for attention: g(f) of docs/model.md."""

    NEUTRAL = 0
    NEG = 1
    POS = 2


_GROUPS: Mapping[Feedback, Group] = {
    Feedback.GLANCE: Group.NEG,
    Feedback.NEGATIVE: Group.NEG,
    Feedback.EFFECTIVE: Group.POS,
    Feedback.LONG: Group.POS,
    Feedback.LIKED: Group.POS,
}

GROUP_OF: tuple[int, ...] = tuple(int(_GROUPS.get(state, Group.NEUTRAL)) for state in Feedback)
"""The group of each Feedback, by its number."""

_STRONGEST_FIRST: tuple[tuple[tuple[str, ...], Feedback], ...] = (
    (("negative",), Feedback.NEGATIVE),
    (LIKED_LABELS, Feedback.LIKED),
    (("long",), Feedback.LONG),
    (("effective",), Feedback.EFFECTIVE),
    (("glance",), Feedback.GLANCE),
)
"""The rule, once, for both engines: the first line with a label that is 1 gives the word."""


def feedback_states(
    labels: Mapping[str, Label], watch_known: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """Give each event its word.

    Args:
        labels: (N,) in {-1, 0, 1} for each of `watch.LABELS`.
        watch_known: (N,) whether the watch time is known.

    Returns:
        (N,) `Feedback` numbers, never PAD.
    """
    states = np.where(watch_known, Feedback.PARTIAL, Feedback.UNKNOWN)
    for names, state in reversed(_STRONGEST_FIRST):
        said = np.any([labels[name] == 1 for name in names], axis=0)
        states = np.where(said, state, states)
    return states.astype(np.int8)


def feedback_expression(labelled: ir.Table) -> ir.IntegerColumn:
    """Say the same in the data engine.

    Args:
        labelled: Has one int8 column `label_<name>` per label, and `watch_s` (null = unknown).

    Returns:
        An int8 column of `Feedback` numbers, never PAD.
    """
    cases = [
        (ibis.or_(*(labelled[f"label_{name}"] == 1 for name in names)), int(state))
        for names, state in _STRONGEST_FIRST
    ]
    cases.append((labelled.watch_s.notnull(), int(Feedback.PARTIAL)))
    return ibis.cases(*cases, else_=int(Feedback.UNKNOWN)).cast("int8")
