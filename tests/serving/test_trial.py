"""The rule by which a model on trial is kept or rolled back, on drawn viewers."""

import dataclasses

import numpy as np
import pytest

from skipwise.experiments.sequence import half_widths
from skipwise.serving.trial import GROUPS, WATCHED, Sums, Tally, TrialSettings, judge, no_sums

STRICT = TrialSettings(
    views_at_least=500, views_planned=4000, skips_worse_by=0.0, calibration_worse_by=0.0
)


def looks(
    seed: int, *, skips: float = 0.0, bias: float = 0.0, viewers: int = 400, steps: int = 20
) -> list[Sums]:
    """Sums of two arms at each look: viewers skip by a rate of their own, (0.2 to 0.6).

    Args:
        seed: Of everything.
        skips: What the canary adds to every viewer's rate.
        bias: What its chances are off by.
        viewers: In both arms together.
        steps: How many looks; each adds about 200 views an arm.
    """
    rng = np.random.default_rng(seed)
    arm, group = rng.integers(0, 2, viewers), rng.integers(0, GROUPS, viewers)
    own = rng.uniform(0.2, 0.6, viewers)
    activity = rng.gamma(1.0, 1.0, viewers)
    activity /= activity.sum()
    sums, found = no_sums(), []
    for _ in range(steps):
        who = rng.choice(viewers, 400, p=activity)
        chance = np.clip(own[who] + skips * arm[who], 0, 1)
        came = rng.random(400) < chance
        told = np.clip(chance + rng.normal(0, 0.05, 400) + bias * arm[who], 0, 1)
        for place in range(len(WATCHED)):
            one = np.stack([np.ones(400), told, came], axis=1)
            np.add.at(sums[:, :, place], (arm[who], group[who]), one)
        found.append(sums.copy())
    return found


def decision(
    seed: int, settings: TrialSettings = STRICT, *, skips: float = 0.0, bias: float = 0.0
) -> str:
    for sums in looks(seed, skips=skips, bias=bias):
        said = judge(sums, settings, minutes=1.0)
        if said.decision != "open":
            return said.decision
    return "open"


def test_equal_models_are_seldom_rolled_back() -> None:
    """With nothing tolerated, 200 trials of 20 looks; at most the chance that was promised."""
    alarms = sum(decision(seed) == "worse" for seed in range(200))
    assert alarms <= 0.05 * 200


@pytest.mark.parametrize(("skips", "bias"), [(0.15, 0.0), (0.0, 0.15), (0.0, -0.15)])
def test_what_is_worse_is_rolled_back(skips: float, bias: float) -> None:
    found = [decision(seed, skips=skips, bias=bias) for seed in range(20)]
    assert found.count("worse") >= 18


def test_what_is_better_is_kept() -> None:
    assert [decision(seed, skips=-0.15) for seed in range(20)].count("worse") == 0


def test_what_is_tolerated_is_kept() -> None:
    tolerant = dataclasses.replace(STRICT, skips_worse_by=0.2)
    assert [decision(seed, tolerant, skips=0.15) for seed in range(20)].count("worse") == 0


def test_nothing_is_said_of_few_views_until_the_time_is_over() -> None:
    (sums,) = looks(0, skips=0.4, steps=1)
    assert judge(sums, STRICT, minutes=1.0).decision == "open"
    assert judge(sums, STRICT, minutes=60.0).decision == "kept"
    assert "not shown to be worse" in judge(sums, STRICT, minutes=60.0).words


def test_half_width_and_error_by_hand() -> None:
    """Two groups of views in each arm, and the rule recomputed from its formulas."""
    sums = looks(4, skips=0.1)[-1]
    number, came = sums[:, :, 0, 0], sums[:, :, 0, 2]
    rate = came.sum(axis=1) / number.sum(axis=1)
    error = np.sqrt(
        sum(
            GROUPS / (GROUPS - 3) * ((came[a] - rate[a] * number[a]) ** 2).sum()
            / number[a].sum() ** 2
            for a in (0, 1)
        )
    )  # fmt: skip
    width = float(half_widths(error, number.sum(axis=1).min(), 4000, 0.05 / 4))
    said = judge(sums, dataclasses.replace(STRICT, calibration_worse_by=1.0), minutes=1.0)
    assert (said.decision == "worse") == (rate[1] - rate[0] > width)
    if said.decision == "worse":
        assert f"{rate[1] - rate[0]:+.3f} ±{width:.3f}" in said.words


def test_a_tally_counts_what_its_two_models_promised_and_adds_what_others_tell() -> None:
    tally, chances = Tally(), {"glance": 0.25, "long": 0.5}
    tally.add("b", "v", chances, {"glance": True})
    assert not tally.own.any(), "no trial is on"
    tally.begin("b:1", ("a", "b"))
    tally.add("b", "v", chances, {"glance": True})
    tally.add("c", "v", chances, {"glance": True})
    assert tally.own[1, :, 0].sum(axis=0).tolist() == [1.0, 0.25, 1.0]
    assert tally.own[0].sum() == 0
    assert tally.own[1, :, WATCHED.index("long")].sum() == 0, "its outcome is not known"
    tally.hear("other", "b:1", (2 * tally.own).ravel().tolist())
    tally.hear("me", "b:1", (9 * tally.own).ravel().tolist())
    tally.hear("late", "a:0", (9 * tally.own).ravel().tolist())
    np.testing.assert_array_equal(tally.all("me"), 3 * tally.own)
