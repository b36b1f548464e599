import dataclasses

import numpy as np
from scipy.stats import chi2_contingency, chisquare

from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Variant
from tests.experiments.planted import DEFINITION

VIEWERS = [f"u{number}" for number in range(20_000)]
THREE = dataclasses.replace(
    DEFINITION,
    variants=(
        Variant(name="control", share=0.5, model="a"),
        Variant(name="one", share=0.3, model="b"),
        Variant(name="two", share=0.1, model="c"),
    ),
)


def test_a_viewer_stays_in_his_variant_on_any_machine() -> None:
    """The answers are fixed numbers: another hash, order or seed would change them."""
    assert assign(THREE, ["u0", "u1", "u2", "u3", "u4", "u5"]) == [
        *("two", "one", "one", "two", "control", "one"),
    ]
    assert assign(THREE, VIEWERS[::-1]) == assign(THREE, VIEWERS)[::-1]


def test_shares_are_met_as_well_as_chance_allows() -> None:
    drawn = assign(THREE, VIEWERS)
    counts = [drawn.count(name) for name in ("control", "one", "two", None)]
    assert chisquare(counts, np.array([0.5, 0.3, 0.1, 0.1]) * len(VIEWERS)).pvalue > 0.001


def test_two_experiments_assign_independently() -> None:
    other = dataclasses.replace(THREE, name="other")
    salted = dataclasses.replace(THREE, salt="again")
    for second in (other, salted):
        table = np.zeros((4, 4))
        names = ["control", "one", "two", None]
        for a, b in zip(assign(THREE, VIEWERS), assign(second, VIEWERS), strict=True):
            table[names.index(a), names.index(b)] += 1
        assert chi2_contingency(table).pvalue > 0.001
        assert table[0, 1] > 0  # and they do differ


def test_neighbouring_ids_fall_apart() -> None:
    """Runs of equal neighbours are as many as chance makes: ids in order tell nothing."""
    treated = np.array([name == "one" for name in assign(THREE, VIEWERS)])
    changes = np.mean(treated[1:] != treated[:-1])
    assert abs(changes - 2 * 0.3 * 0.7) < 4 * np.sqrt(0.42 * 0.58 / len(VIEWERS))
