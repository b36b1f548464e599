"""Numbers against scipy and numpy, false alarms against their level, planted effects found."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from skipwise.errors import ExperimentError
from skipwise.experiments.analysis import analyse, plan, ratio_p_value, unjudged
from skipwise.experiments.correction import corrected, step_up
from skipwise.experiments.definition import Goal, Guardrail, Variant
from skipwise.experiments.effects import Effect, always_alpha, effects_on
from skipwise.experiments.metrics import PARTS
from skipwise.experiments.panel import Panel
from skipwise.experiments.sequence import half_widths
from skipwise.experiments.verdict import RATIO_ALARM, breach, holds, judge
from skipwise.report.experiment_page import write_experiment_page
from tests.experiments.planted import (
    DEFINITION,
    lifted,
    made_panel,
    planned_lift,
    reassigned,
)

WEEK = dataclasses.replace(DEFINITION, days=7, guardrails=())
RAW = dataclasses.replace(WEEK, covariate_days=0)


def part(panel: Panel, name: str) -> NDArray[np.float64]:
    total: NDArray[np.float64] = panel.sums[PARTS.index(name)].sum(axis=0)
    return total


def without_past(panel: Panel) -> Panel:
    return dataclasses.replace(panel, before=np.zeros_like(panel.before))


def only(effects: list[Effect], metric: str) -> Effect:
    (found,) = [each for each in effects if each.metric == metric]
    return found


def test_a_mean_equals_welch_by_scipy() -> None:
    panel = without_past(made_panel(np.random.default_rng(1)))
    found = only(effects_on(panel, RAW, 6, ["watch_per_viewer"]), "watch_per_viewer")
    watch = part(panel, "watch_s")
    a, b = watch[panel.variant == 0], watch[panel.variant == 1]
    error = np.sqrt(a.var(ddof=1) / a.size + b.var(ddof=1) / b.size)
    assert found.effect == pytest.approx(b.mean() - a.mean())
    assert found.standard_error == pytest.approx(error)
    assert found.low == pytest.approx(found.effect - stats.norm.ppf(0.975) * error)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(found.effect) / error))
    welch = stats.ttest_ind(b, a, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue, abs=0.005)  # normal for t, of 400


def test_a_ratio_equals_the_delta_method_by_hand() -> None:
    panel = without_past(made_panel(np.random.default_rng(2)))
    found = only(effects_on(panel, RAW, 6, ["glance_rate"]), "glance_rate")
    glances, views = part(panel, "glances"), part(panel, "glances_known")
    means, variances = [], []
    for variant in (0, 1):
        y, x = glances[panel.variant == variant], views[panel.variant == variant]
        ratio = y.sum() / x.sum()
        linear = (y - ratio * x) / x.mean()  # first-order effect of a viewer on the ratio
        means.append(ratio)
        variances.append(linear.var(ddof=1) / y.size)
    assert found.control_mean == pytest.approx(means[0])
    assert found.effect == pytest.approx(means[1] - means[0])
    assert found.standard_error == pytest.approx(np.sqrt(sum(variances)))


def test_cuped_equals_a_regression_by_hand_and_narrows() -> None:
    panel = made_panel(np.random.default_rng(3))
    found = only(effects_on(panel, WEEK, 6, ["watch_per_viewer"]), "watch_per_viewer")
    raw = only(effects_on(without_past(panel), RAW, 6, ["watch_per_viewer"]), "watch_per_viewer")
    y, x = part(panel, "watch_s"), panel.before[PARTS.index("watch_s")]
    of = [panel.variant == 0, panel.variant == 1]
    # theta over all viewers, both variants together: cov(y, x) / var(x)
    theta = np.cov(y, x)[0, 1] / x.var(ddof=1)
    adjusted = y - theta * (x - x.mean())
    effect = adjusted[of[1]].mean() - adjusted[of[0]].mean()
    error = np.sqrt(sum(adjusted[each].var(ddof=1) / each.sum() for each in of))
    assert found.effect == pytest.approx(effect, rel=1e-6)
    assert found.standard_error == pytest.approx(error, rel=1e-6)
    assert found.standard_error < 0.8 * raw.standard_error


def test_the_confidence_sequence_is_the_published_boundary() -> None:
    """Theorem 2.2 of arXiv 2103.06476, written out with t and rho, for 1,000 observations."""
    t, alpha = 1000.0, 0.05
    rho2 = (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / t
    for at in (100.0, 500.0, 1000.0, 3000.0):
        boundary = np.sqrt(
            2 * (at * rho2 + 1) / (at**2 * rho2) * np.log(np.sqrt(at * rho2 + 1) / alpha)
        )
        ours = half_widths(1 / np.sqrt(at), at / 100, 10, alpha)
        assert float(ours) == pytest.approx(boundary)
    z = half_widths(np.ones(13), np.arange(1.0, 14.0), 7, alpha)
    assert z.min() > 1.96  # waiting costs


def test_the_sequence_covers_brownian_motion_at_every_look() -> None:
    """2,000 walks of independent steps, what the boundary is made for, looked at 14 times."""
    walks = np.random.default_rng(4).standard_normal((2000, 14)).cumsum(axis=1)
    days = np.arange(1, 15)
    widths = half_widths(np.sqrt(days), days, 14, 0.05)
    always = (np.abs(walks) > widths).any(axis=1).mean()
    fixed = (np.abs(walks) > 1.96 * np.sqrt(days)).any(axis=1).mean()
    assert always < 0.05
    assert fixed > 0.15


def test_nothing_is_found_where_nothing_is() -> None:
    """150 A/A runs; the full form, 1,000, is `make bench-experiments`."""
    rng = np.random.default_rng(5)
    panel = made_panel(rng, viewers=300, days=7)
    at_the_end = always = 0
    for _ in range(150):
        again = reassigned(panel, rng.integers(0, 2, 300))
        looks = [only(effects_on(again, WEEK, day, ["glance_rate"]), "glance_rate")
                 for day in range(7)]  # fmt: skip
        at_the_end += looks[-1].p_value < 0.05
        always += any(look.always_low > 0 or look.always_high < 0 for look in looks)
    assert 0 < at_the_end <= stats.binom.ppf(0.9995, 150, 0.05)
    assert always <= at_the_end


@pytest.mark.parametrize(("correction", "power"), [("fwer", 0.8), ("none", 0.6)])
def test_a_planted_effect_is_found_with_the_planned_power(
    correction: Literal["fwer", "none"], power: float
) -> None:
    """600 runs, planned by many viewers; the full form is `make bench-experiments`."""
    names = ["watch_per_viewer", "glance_rate", "views_per_viewer"]
    goals = tuple(Goal(name=name) for name in names)
    definition = dataclasses.replace(WEEK, metrics=goals, correction=correction, power=power)
    rng = np.random.default_rng(6)
    lift, found = planned_lift(definition, rng, viewers=400), 0
    for _ in range(600):
        panel = lifted(made_panel(rng, viewers=400), lift)
        told = corrected(effects_on(panel, definition, 6, names), definition)
        found += only(told, "watch_per_viewer").p_adjusted < definition.alpha
    low, high = stats.binom.ppf([0.001, 0.999], 600, power)
    assert low <= found <= high


@pytest.mark.parametrize(("shares", "first"), [((0.5, 0.5), 1000), ((0.9, 0.1), 1800)])
def test_a_plan_knows_how_unequal_the_groups_are(shares: tuple[float, float], first: int) -> None:
    """(z_a/2 + z_b) sd sqrt(1 / n_c + 1 / n_t) is found, and as many are needed as have 1 %."""
    variants = tuple(
        dataclasses.replace(each, share=share)
        for each, share in zip(WEEK.variants, shares, strict=True)
    )
    variant = np.repeat([0, 1], [first, 2000 - first])
    panel = without_past(made_panel(np.random.default_rng(3), viewers=2000, variant=variant))
    definition = dataclasses.replace(
        WEEK, variants=variants, metrics=(Goal(name="watch_per_viewer", minimum_effect=0.01),)
    )
    (found,) = plan(panel, definition)
    watch = panel.totals(panel.num_days - 1)[PARTS.index("watch_s")][:first]
    z = stats.norm.ppf(1 - definition.alpha / 2) + stats.norm.ppf(definition.power)
    each = z * watch.std(ddof=1) / watch.mean()
    wanted = each * np.sqrt(1 / first + 1 / (2000 - first))
    assert found.detectable == pytest.approx(wanted, rel=1e-3)
    assert found.viewers_needed == pytest.approx(2000 * (wanted / 0.01) ** 2, rel=1e-3)


def test_lost_viewers_are_an_alarm_and_chance_is_none() -> None:
    assert ratio_p_value([5000, 4600], [0.5, 0.5]) < RATIO_ALARM
    assert ratio_p_value([5000, 4900], [0.5, 0.5]) > RATIO_ALARM
    exact = stats.binomtest(90, 200, 0.5).pvalue
    assert ratio_p_value([90, 110], [0.5, 0.5]) == pytest.approx(exact)
    uneven = stats.binomtest(60, 200, 0.25).pvalue
    assert ratio_p_value([60, 140], [0.25, 0.75]) == pytest.approx(uneven)
    three = ratio_p_value([400, 400, 280], [1 / 3, 1 / 3, 1 / 3])
    assert three < RATIO_ALARM


def test_corrections_equal_scipy_and_hochberg_by_hand() -> None:
    p = np.array([0.04, 0.001, 0.03, 0.2])
    np.testing.assert_allclose(step_up(p, "fdr"), stats.false_discovery_control(p))
    # sorted .001 .03 .04 .2, factors 4 3 2 1: .004 .09 .08 .2; running least from the end
    np.testing.assert_allclose(step_up(p, "fwer"), [0.08, 0.004, 0.08, 0.2])


def lost(panel: Panel) -> Panel:
    """Lose a half of the treated viewers."""
    kept = (panel.variant == 0) | (np.arange(panel.variant.size) % 2 > 0)
    return panel.of(kept)


def test_the_verdict_says_what_to_do() -> None:
    rng = np.random.default_rng(7)
    better, same = made_panel(rng, viewers=600, lift=0.6), made_panel(rng, viewers=600)
    worse = dataclasses.replace(better, variant=1 - better.variant)
    longer = dataclasses.replace(WEEK, days=20)

    def decision(panel: Panel, definition: object = WEEK) -> str:
        assert isinstance(definition, type(WEEK))
        return judge(analyse(panel, definition), definition)[0].decision

    assert decision(better) == "better"
    assert decision(worse) == "worse"
    assert decision(same) == "no difference shown"
    assert decision(same, longer) == "keep running"
    assert decision(better, longer) == "better"
    assert decision(lost(same)) == "distrust"
    rail = (Guardrail(name="watch_per_view", worse_by_at_most=0.05),)
    assert decision(worse, dataclasses.replace(longer, guardrails=rail)) == "stop"
    assert decision(same, dataclasses.replace(longer, guardrails=rail)) == "keep running"
    loose = (Guardrail(name="watch_per_view", worse_by_at_most=0.9),)
    assert decision(worse, dataclasses.replace(longer, guardrails=loose)) == "worse"


def test_a_guardrail_that_nothing_breaks_is_not_thereby_shown_to_hold() -> None:
    rng = np.random.default_rng(7)
    better = made_panel(rng, viewers=600, lift=0.6)
    small = made_panel(rng, viewers=60)

    def shown(panel: Panel, tolerated: float) -> tuple[bool, bool, str]:
        rail = Guardrail(name="watch_per_view", worse_by_at_most=tolerated)
        definition = dataclasses.replace(WEEK, guardrails=(rail,))
        analysis = analyse(panel, definition)
        effect = next(each for each in analysis.effects if each.metric == rail.name)
        return breach(effect, rail), holds(effect, rail), judge(analysis, definition)[0].words

    assert shown(better, 0.05)[:2] == (False, True)
    assert "not shown to hold" not in shown(better, 0.05)[2]
    assert shown(small, 0.02)[:2] == (False, False)
    worse = dataclasses.replace(better, variant=1 - better.variant)
    assert shown(worse, 0.05)[:2] == (True, False)
    fewer = (Guardrail(name="glance_rate", worse_by_at_most=0.0001),)
    definition = dataclasses.replace(WEEK, guardrails=fewer)
    (verdict,) = judge(analyse(better, definition), definition)
    assert verdict.decision == "better"
    assert "not shown to hold either: skip rate (glances per view) (tolerated" in verdict.words


def test_a_difference_between_groups_is_seen_only_where_it_is() -> None:
    rng = np.random.default_rng(8)
    panel = made_panel(rng, viewers=900)
    assert analyse(panel, WEEK).heterogeneity_p_value["treatment"] > 0.01
    sums = panel.sums.copy()
    some = (panel.segment == 2) & (panel.variant == 1)
    sums[PARTS.index("watch_s")][:, some] *= 2.0
    planted = dataclasses.replace(panel, sums=sums)
    assert analyse(planted, WEEK).heterogeneity_p_value["treatment"] < 1e-4


def test_three_variants_are_each_compared_with_control() -> None:
    rng = np.random.default_rng(9)
    third = rng.integers(0, 3, 900)
    panel = made_panel(rng, viewers=900, variant=third, lift=0.5)
    three = dataclasses.replace(
        WEEK,
        variants=tuple(
            Variant(name=name, share=1 / 4, model="m") for name in ("control", "b", "c")
        ),
    )
    found = {each.treatment: each for each in effects_on(panel, three, 6, ["watch_per_view"])}
    assert found["b"].p_value < 1e-6
    assert found["c"].p_value > 0.001
    alone = panel.of(third != 1)
    two = dataclasses.replace(alone, variant=np.where(alone.variant == 2, 1, 0))
    again = effects_on(two, WEEK, 6, ["watch_per_view"])[0]
    assert found["c"].effect == pytest.approx(again.effect)


def test_too_little_to_say_anything_is_refused() -> None:
    panel = made_panel(np.random.default_rng(10))
    strict = dataclasses.replace(WEEK, minimum_viewers=1000)
    with pytest.raises(ExperimentError, match="must have >= minimum_viewers = 1,000"):
        analyse(panel, strict)
    likes = dataclasses.replace(WEEK, metrics=(Goal(name="like_rate"),))
    with pytest.raises(ExperimentError, match="like_rate does not vary"):
        analyse(panel, likes)


def first_day(panel: Panel) -> Panel:
    return dataclasses.replace(panel, sums=panel.sums[:, :1])


def test_what_cannot_be_judged_on_the_first_day_leaves_the_rest_to_be_judged(
    tmp_path: Path,
) -> None:
    """Nobody can have come back yet, and nobody likes; a broken guardrail still stops."""
    panel = first_day(made_panel(np.random.default_rng(11), viewers=600, lift=2.0))
    rails = ("return_rate", "like_rate", "watch_per_view")
    definition = dataclasses.replace(
        WEEK, guardrails=tuple(Guardrail(name=name, worse_by_at_most=0.05) for name in rails)
    )
    found = analyse(panel, definition)
    assert found.days == 1
    assert unjudged(found.effects, definition, "treatment") == ["return_rate", "like_rate"]
    (same,) = judge(found, definition)
    assert "Not judged yet: next-day return, likes per thousand views" in same.words
    worse = analyse(dataclasses.replace(panel, variant=1 - panel.variant), definition)
    (verdict,) = judge(worse, definition)
    assert verdict.decision == "stop"
    assert "Not judged yet: next-day return" in verdict.words
    page = tmp_path / "page.html"
    write_experiment_page(page, worse, [verdict], definition, simulated=False)
    assert "Not judged yet: next-day return" in page.read_text(encoding="utf-8")


def test_what_is_asked_for_may_wait_until_the_planned_end_and_no_longer() -> None:
    panel = made_panel(np.random.default_rng(12), viewers=600)
    names = ("like_rate", "watch_per_viewer")
    definition = dataclasses.replace(WEEK, metrics=tuple(Goal(name=name) for name in names))
    early = analyse(first_day(panel), definition)
    (verdict,) = judge(early, definition)
    assert verdict.decision == "keep running"
    assert "day 1 of 7" in verdict.words
    assert "Not judged yet: likes per thousand views" in verdict.words
    assert [each.metric for each in early.plans] == ["watch_per_viewer"]
    with pytest.raises(ExperimentError, match="like_rate does not vary"):
        analyse(panel, definition)
    likes = dataclasses.replace(WEEK, metrics=(Goal(name="like_rate"),))
    with pytest.raises(ExperimentError, match="like_rate does not vary"):
        analyse(first_day(panel), likes)


def test_a_metric_constant_in_one_arm_is_judged_in_the_others() -> None:
    rng = np.random.default_rng(13)
    panel = made_panel(rng, viewers=900, variant=rng.integers(0, 3, 900))
    three = dataclasses.replace(
        WEEK,
        variants=tuple(
            Variant(name=name, share=1 / 4, model="m") for name in ("control", "b", "c")
        ),
    )
    sums = panel.sums.copy()
    sums[PARTS.index("glances")][:, panel.variant == 2] = 0.0
    found = effects_on(dataclasses.replace(panel, sums=sums), three, 6, ["glance_rate"])
    assert [each.treatment for each in found] == ["b"]


def test_the_always_valid_interval_is_as_wide_as_its_number_of_comparisons_asks() -> None:
    """alpha / (metrics x treatments) where p-values are corrected; guardrails stay at alpha."""
    rng = np.random.default_rng(14)
    panel = made_panel(rng, viewers=900, variant=rng.integers(0, 3, 900))
    goals = (Goal(name="watch_per_viewer"), Goal(name="glance_rate"))
    six = dataclasses.replace(
        WEEK,
        variants=tuple(
            Variant(name=name, share=1 / 4, model="m") for name in ("control", "b", "c")
        ),
        metrics=(*goals, Goal(name="views_per_viewer")),
        guardrails=(Guardrail(name="return_rate", worse_by_at_most=0.1),),
    )
    names = ["watch_per_viewer", "return_rate"]
    corrected_ones = effects_on(panel, six, 3, names)
    plain = effects_on(panel, dataclasses.replace(six, correction="none"), 3, names)
    for one, other in zip(corrected_ones, plain, strict=True):
        level = 0.05 / 6 if one.metric == "watch_per_viewer" else 0.05
        assert one.always_level == always_alpha(six, one.metric) == pytest.approx(level)
        width = (one.always_high - one.always_low) / 2
        assert width == pytest.approx(float(half_widths(one.standard_error, 4, 7, level)))
        before = float(half_widths(other.standard_error, 4, 7, 0.05))
        assert (other.always_high - other.always_low) / 2 == pytest.approx(before)
        assert (width > 1.1 * before) == (one.metric == "watch_per_viewer")
        assert one.low == pytest.approx(other.low)  # the fixed one is corrected by p-values
