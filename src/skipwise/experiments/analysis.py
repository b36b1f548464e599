"""What did an experiment show?

    Panel, Definition  ->  analyse  ->  Analysis: effects with two intervals, looks, alarms

- Nothing is said of too few viewers; what cannot be judged yet is left out, the rest is judged.
- P-values of several metrics and treatments are corrected; guardrails are alarms and are not.
- A stopped treatment is judged as of its stop. Its data decided when, so it has no p-value.

Reads `effects`, `correction`, `panel`, `metrics`, `definition`; is read by `verdict` and the
report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import tea_tasting as tt
from numpy.typing import NDArray
from scipy.stats import chi2

from skipwise.errors import ExperimentError
from skipwise.experiments.correction import corrected
from skipwise.experiments.definition import Definition
from skipwise.experiments.effects import (
    Effect,
    aggregates,
    effects_on,
    is_constant,
    metric_names,
    tested,
)
from skipwise.experiments.metrics import METRICS
from skipwise.experiments.panel import SEGMENTS, Panel
from skipwise.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What can be found with the viewers there are, and what would be needed."""

    metric: str
    minimum_effect: float
    """What the definition asks for, relative."""
    detectable: float
    """Relative effect found with the wanted power at the planned end, control against the smallest
    treatment, at the level that correction leaves each comparison."""
    viewers_needed: int
    """In control and that treatment together, shared out as now, for the minimum effect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentEffect:
    """The first metric's effect among some of the viewers."""

    segment: str
    viewers: int
    effect: Effect | None
    """None where they are too few or do not vary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """When a treatment was stopped, and what it is judged on."""

    at_ms: int
    """UTC ms; nothing shown later counts, of control neither."""
    day: int
    """Of the stop, 0 = the experiment's first."""
    days: int
    """How many days it is judged on, from the first on; that of the stop until the stop."""
    guardrail: str
    """The metric that broke; empty = somebody decided it."""
    why: str
    """In words, with the figures of then."""
    viewers: Mapping[str, int]
    """Exposed until then, of control and of it."""

    @property
    def judged_on(self) -> str:
        """The days it is judged on, in words."""
        return "day 1" if self.days == 1 else f"days 1-{self.days}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """Everything a report tells."""

    days: int
    """Days of the experiment in the log."""
    viewers: Mapping[str, int]
    """Exposed, by variant."""
    ratio_p_value: float
    """That the numbers of viewers fit the shares (chi-square); tiny = alarm."""
    effects: Sequence[Effect]
    """At the last day, or the stop: metrics, then guardrails, for each treatment; see
    `unjudged`."""
    looks: Sequence[Effect]
    """At the end of every day on which there were viewers enough."""
    plans: Sequence[Plan]
    segments: Mapping[str, Sequence[SegmentEffect]]
    """By treatment."""
    heterogeneity_p_value: Mapping[str, float]
    """That the first metric's relative effect is the same in all segments (Cochran's Q), by
    treatment."""
    stopped: Mapping[str, Stopped] = field(default_factory=dict)
    """By treatment."""


def analyse(panel: Panel, definition: Definition, progress: Progress = SILENT) -> Analysis:
    """Analyse an experiment as of the last day the log holds.

    Raises:
        ExperimentError: A variant has too few viewers, no metric varies yet, or one that is asked
            for does not at the planned end.
    """
    names = metric_names(definition)
    _check_enough(panel, definition)
    running = _running(panel, definition)
    counts = np.bincount(panel.variant, minlength=len(definition.variants))
    looks: list[Effect] = []
    with progress.task("analyse", total=panel.num_days, unit="days") as task:
        for day in range(panel.num_days):
            looks += effects_on(panel, definition, day, names, running) if running else []
            for treatment, (_, __, until) in panel.stopped.items():
                if day < until.num_days:
                    looks += effects_on(until, definition, day, names, [treatment])
            task.advance()
    last = {name: _panel_of(panel, name).num_days - 1 for name in definition.treatments}
    final = [
        look
        for name in definition.treatments
        for look in looks
        if look.treatment == name and look.day == last[name]
    ]
    final = corrected(final, definition, tuple(panel.stopped))
    _check_varies(panel, definition, final)
    segments = {each: _by_segment(panel, definition, each) for each in definition.treatments}
    return Analysis(
        days=panel.num_days,
        viewers={
            variant.name: int(count)
            for variant, count in zip(definition.variants, counts, strict=True)
        },
        ratio_p_value=_fit_of_shares(panel, definition),
        effects=final,
        looks=looks,
        plans=plan(panel, definition),
        segments=segments,
        heterogeneity_p_value={
            name: _same_in_all(found, definition.alpha) for name, found in segments.items()
        },
        stopped={name: _stopped(panel, definition, name) for name in panel.stopped},
    )


def unjudged(effects: Sequence[Effect], definition: Definition, treatment: str) -> list[str]:
    """Return the metrics and guardrails of which nothing can be said yet, for want of variance."""
    judged = {each.metric for each in effects if each.treatment == treatment}
    return [name for name in metric_names(definition) if name not in judged]


def ratio_p_value(counts: Sequence[int] | NDArray[np.int64], shares: Sequence[float]) -> float:
    """Return how likely numbers so far from the shares are by chance (sample ratio mismatch).

    tea-tasting's test for each variant against all others, the least p times their number
    (Bonferroni).

    >>> ratio_p_value([5000, 5010], [0.5, 0.5]) > 0.5
    True
    >>> ratio_p_value([5000, 5500], [0.5, 0.5]) < 0.001
    True
    """
    total, whole = int(np.sum(counts)), float(np.sum(shares))
    least = 1.0
    for count, share in zip(counts, shares, strict=True):
        data = {
            0: tt.aggr.Aggregates(count_=total - int(count)),
            1: tt.aggr.Aggregates(count_=int(count)),
        }
        test = tt.SampleRatio(share / (whole - share))
        least = min(least, float(test.analyze(data, 0, 1).pvalue))
    comparisons = 1 if len(shares) == 2 else len(shares)
    return min(1.0, least * comparisons)


def plan(panel: Panel, definition: Definition) -> list[Plan]:
    """Say what can be found in the smallest treatment, from how the metrics vary in control.

    Of the treatments that were not stopped; where all were, nothing is planned.

        (z_{a/2} + z_power) s sqrt(1 / n_c + 1 / n_t),   a = alpha / m where p-values are corrected

    with s control's standard deviation, CUPED's where there is a covariate, and m the comparisons:
    the step that Hochberg and Benjamini-Hochberg ask of one that alone is true. The effect is
    taken to be the same for every viewer; one in proportion to what each does makes the treatment
    vary more, and is found a little less often. A plan from few viewers, who are very unlike each
    other, is itself uncertain. There is none for a metric that does not vary in control yet.
    """
    if not (running := _running(panel, definition)):
        return []
    order = [each.name for each in definition.variants]
    control = panel.variant == order.index(definition.control)
    totals = panel.totals(panel.num_days - 1)
    counts = np.bincount(panel.variant, minlength=len(order)).tolist()
    in_control = counts[order.index(definition.control)]
    in_treatment = min(counts[order.index(name)] for name in running)
    number, ratio = in_control + in_treatment, in_treatment / in_control
    comparisons = len(definition.metrics) * len(definition.treatments)
    corrected_by = 1 if definition.correction == "none" else comparisons
    plans = []
    for goal in definition.metrics:
        metric = METRICS[goal.name]
        if is_constant(totals[:, control], metric):
            continue
        data = aggregates(totals, panel.before, control, [goal.name])
        alpha = definition.alpha / corrected_by
        asked = {"power": definition.power, "alpha": alpha, "ratio": ratio}
        by_number = tested(metric, data, n_obs=number, **asked)
        by_effect = tested(metric, data, rel_effect_size=goal.minimum_effect, **asked)
        found = by_number.solve_power(data, "rel_effect_size")[0]
        needed = by_effect.solve_power(data, "n_obs")[0]
        plans.append(
            Plan(
                metric=goal.name,
                minimum_effect=goal.minimum_effect,
                detectable=float(found.rel_effect_size),
                viewers_needed=int(np.ceil(needed.n_obs)),
            )
        )
    return plans


def _by_segment(panel: Panel, definition: Definition, treatment: str) -> list[SegmentEffect]:
    found, whole = [], _panel_of(panel, treatment)
    for place, segment in enumerate(SEGMENTS):
        part = whole.of(whole.segment == place)
        first, last = definition.metrics[0].name, part.num_days - 1
        own = effects_on(part, definition, last, [first], [treatment])
        found.append(
            SegmentEffect(
                segment=segment, viewers=len(part.variant), effect=own[0] if own else None
            )
        )
    return found


def _running(panel: Panel, definition: Definition) -> list[str]:
    return [name for name in definition.treatments if name not in panel.stopped]


def _panel_of(panel: Panel, treatment: str) -> Panel:
    """Return what a treatment is judged by."""
    return panel.stopped[treatment].panel if treatment in panel.stopped else panel


def _stopped(panel: Panel, definition: Definition, treatment: str) -> Stopped:
    stop, day, until = panel.stopped[treatment]
    counts = np.bincount(until.variant, minlength=len(definition.variants)).tolist()
    order = [each.name for each in definition.variants]
    return Stopped(
        at_ms=stop.at_ms,
        day=day,
        days=until.num_days,
        guardrail=stop.guardrail,
        why=stop.why,
        viewers={name: counts[order.index(name)] for name in (definition.control, treatment)},
    )


def _fit_of_shares(panel: Panel, definition: Definition) -> float:
    """Return the sample ratio's p-value: of what still runs, and of each stop until it.

    Nobody is newly exposed to a stopped variant, so that its number falls behind its share. The
    least p times the number of tests (Bonferroni).
    """
    running = [definition.control, *_running(panel, definition)]
    together = [(panel, running)] if len(running) > 1 else []
    together += [(each.panel, [definition.control, name]) for name, each in panel.stopped.items()]
    found = []
    for part, names in together:
        counts = np.bincount(part.variant, minlength=len(definition.variants)).tolist()
        pairs = zip(definition.variants, counts, strict=True)
        kept = [(count, variant.share) for variant, count in pairs if variant.name in names]
        found.append(ratio_p_value([count for count, _ in kept], [share for _, share in kept]))
    return min(1.0, min(found) * len(found))


def _same_in_all(segments: Sequence[SegmentEffect], alpha: float) -> float:
    """Return the p-value of Cochran's Q of relative effects; NaN under two groups.

    Q = sum_g w_g (e_g - e_bar)^2 with w_g = 1 / SE_g^2, chi-square with groups - 1 degrees.
    """
    told = [each.effect for each in segments if each.effect is not None]
    if len(told) < 2:
        return float("nan")
    effect = np.array([each.relative for each in told])
    weight = np.array([each.relative_high - each.relative_low for each in told]) ** -2.0
    weight *= (2 * NormalDist().inv_cdf(1 - alpha / 2)) ** 2
    q = float((weight * (effect - np.average(effect, weights=weight)) ** 2).sum())
    return float(chi2.sf(q, len(told) - 1))


def _check_enough(panel: Panel, definition: Definition) -> None:
    counts = np.bincount(panel.variant, minlength=len(definition.variants))
    for variant, count in zip(definition.variants, counts.tolist(), strict=True):
        if count < definition.minimum_viewers and variant.name not in panel.stopped:
            raise ExperimentError(
                f"variant {variant.name!r} has {count:,} exposed viewers, must have >= "
                f"minimum_viewers = {definition.minimum_viewers:,}. Wait for more, or raise its "
                "share."
            )


def _check_varies(panel: Panel, definition: Definition, final: Sequence[Effect]) -> None:
    """Refuse what has nothing to be judged, or at the planned end not what was asked for."""
    asked = [goal.name for goal in definition.metrics]
    running = _running(panel, definition)
    if any(each.treatment in running for each in final) and panel.num_days < definition.days:
        return
    left_out = {name for each in running for name in unjudged(final, definition, each)}
    if missing := [name for name in asked if name in left_out]:
        parts = ", ".join(dict.fromkeys(METRICS[name].numerator for name in missing))
        raise ExperimentError(
            f"{', '.join(missing)} does not vary: {parts} is the same for every viewer of a "
            "variant, or there is nothing to divide by; without variance no effect can be told "
            "from chance. Wait for another day, take the metric out, or check that the log holds "
            "what it is made of."
        )
