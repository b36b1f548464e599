"""What each treatment did to each metric, as of the end of a day.

    Panel, Definition, a day  ->  effects_on  ->  Effect per treatment and metric, two intervals

- The fixed interval is for one look at the planned end; the always-valid one for every look.
- Variance is that of viewers, who are what was assigned; ratios go by the delta method; what
  viewers did before the start takes variance out (CUPED). tea-tasting computes both.

Reads `panel`, `sequence`, `metrics`, `definition`; is read by `analysis`, `verdict` and the loop.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import tea_tasting as tt
from numpy.typing import NDArray

from skipwise.experiments.definition import Definition
from skipwise.experiments.metrics import METRICS, PARTS, Metric
from skipwise.experiments.panel import Panel
from skipwise.experiments.sequence import half_widths

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What a treatment did to a metric, as of one day."""

    metric: str
    treatment: str
    day: int
    """Last day looked at, 0 = the first of the experiment."""
    control_mean: float
    treatment_mean: float
    effect: float
    """Treatment less control; with CUPED both are adjusted."""
    standard_error: float
    low: float
    high: float
    """Of the fixed interval: good for one look, at the planned end."""
    always_low: float
    always_high: float
    """Of the confidence sequence: good for every look."""
    always_level: float
    """1 - its coverage, see `always_alpha`."""
    relative: float
    relative_low: float
    relative_high: float
    """Effect and fixed interval as a share of control's mean (Fieller's bounds)."""
    p_value: float
    p_adjusted: float = float("nan")
    """With the definition's correction over metrics and treatments; NaN where none is made."""

    @property
    def always_relative(self) -> tuple[float, float]:
        """Bounds of the confidence sequence as a share of control's mean, taken as known."""
        size = abs(self.control_mean)
        return (self.always_low / size, self.always_high / size) if size else (np.nan, np.nan)


def always_alpha(definition: Definition, metric: str) -> float:
    """Return the level of a metric's confidence sequence.

        alpha / (metrics x treatments)   where p-values are corrected (Bonferroni), else alpha

    So all of them hold together. Guardrails are alarms, at plain alpha, unless metrics too.
    """
    if definition.correction == "none" or metric not in {goal.name for goal in definition.metrics}:
        return definition.alpha
    return definition.alpha / (len(definition.metrics) * len(definition.treatments))


def metric_names(definition: Definition) -> list[str]:
    """Return the names of metrics, then of guardrails that are not among them."""
    rails = [rail.name for rail in definition.guardrails]
    return list(dict.fromkeys([*(goal.name for goal in definition.metrics), *rails]))


def effects_on(
    panel: Panel,
    definition: Definition,
    day: int,
    names: Sequence[str],
    treatments: Sequence[str] | None = None,
) -> list[Effect]:
    """Compare treatments with control as known at the end of a day.

    What cannot be said yet, for want of viewers or of variance, is left out.

    Args:
        panel: What viewers did.
        definition: The experiment; intervals are at the level of all its comparisons.
        day: The last one that counts, 0 = the first.
        names: Of metrics.
        treatments: Which; None = all. Nothing is said where control or one of them has too few.
    """
    treatments = definition.treatments if treatments is None else treatments
    order = [each.name for each in definition.variants]
    compared = {name: order.index(name) for name in (definition.control, *treatments)}
    exposed = panel.since <= day
    counts = np.bincount(panel.variant[exposed], minlength=len(order))
    if counts[list(compared.values())].min() < definition.minimum_viewers:
        return []
    totals = panel.totals(day)[:, exposed]
    variant = panel.variant[exposed]
    kept_of = {
        treatment: [
            name
            for name in names
            if not any(
                is_constant(totals[:, variant == compared[each]], METRICS[name])
                for each in (definition.control, treatment)
            )
        ]
        for treatment in treatments
    }
    of = {
        name: aggregates(totals, panel.before[:, exposed], variant == place, names)
        for name, place in compared.items()
    }
    found = []
    for treatment, kept in kept_of.items():
        if not kept:
            continue
        pair = {name: of[name] for name in (definition.control, treatment)}
        both = sum((pair[treatment],), start=pair[definition.control])
        tests = {name: tested(METRICS[name], both, alpha=definition.alpha) for name in kept}
        results = tt.Experiment(tests).analyze(pair, definition.control)
        found += [_effect(name, treatment, day, results[name], definition) for name in kept]
    return found


def tested(
    metric: Metric, data: tt.aggr.Aggregates, *, alpha: float, **options: Any
) -> tt.Mean | tt.RatioOfMeans:
    """Return tea-tasting's test of a metric, with what was before as covariate where it varies.

    Args:
        metric: What is tested.
        data: Of some viewers, from `aggregates`: says whether what was before varies.
        alpha: Two-sided level, in (0, 1).
        options: Further ones of tea-tasting, as `power`.
    """
    options |= {"use_t": False, "confidence_level": 1 - alpha, "alpha": alpha}
    before = [_before(part) for part in (metric.numerator, metric.denominator) if part]
    varies = all(data.var(part) > 0 for part in before)
    if metric.denominator is None:
        return tt.Mean(metric.numerator, before[0] if varies else None, **options)
    covariates = before if varies else [None, None]
    return tt.RatioOfMeans(metric.numerator, metric.denominator, *covariates, **options)


def aggregates(
    totals: Floats, before: Floats, viewers: NDArray[np.bool_], names: Sequence[str]
) -> tt.aggr.Aggregates:
    """Return count, means and covariances of what metrics are made of, over some viewers.

    Args:
        totals: (PARTS, V) sums of each viewer since exposure.
        before: (PARTS, V) sums of the days before the start.
        viewers: (V,) which of them.
        names: Of metrics.
    """
    used = {METRICS[name].numerator for name in names}
    used |= {part for name in names if (part := METRICS[name].denominator)}
    parts = sorted(used)
    rows = [PARTS.index(part) for part in parts]
    columns = [*parts, *map(_before, parts)]
    values = np.concatenate([totals[rows][:, viewers], before[rows][:, viewers]])
    covariance = np.cov(values)
    pairs = itertools.combinations(range(len(columns)), 2)
    return tt.aggr.Aggregates(
        count_=int(viewers.sum()),
        mean_=dict(zip(columns, values.mean(axis=1).tolist(), strict=True)),
        var_=dict(zip(columns, np.diag(covariance).tolist(), strict=True)),
        cov_={(columns[i], columns[j]): float(covariance[i, j]) for i, j in pairs},
    )


def _effect(name: str, treatment: str, day: int, result: Any, definition: Definition) -> Effect:
    z = NormalDist().inv_cdf(1 - definition.alpha / 2)
    error = float(result.effect_size_ci_upper - result.effect_size_ci_lower) / 2 / z
    alpha = always_alpha(definition, name)
    width = float(half_widths(error, day + 1, definition.days, alpha))
    return Effect(
        metric=name,
        treatment=treatment,
        day=day,
        control_mean=float(result.control),
        treatment_mean=float(result.treatment),
        effect=float(result.effect_size),
        standard_error=error,
        low=float(result.effect_size_ci_lower),
        high=float(result.effect_size_ci_upper),
        always_low=float(result.effect_size) - width,
        always_high=float(result.effect_size) + width,
        always_level=alpha,
        relative=float(result.rel_effect_size),
        relative_low=float(result.rel_effect_size_ci_lower),
        relative_high=float(result.rel_effect_size_ci_upper),
        p_value=float(result.pvalue),
    )


def is_constant(totals: Floats, metric: Metric) -> bool:
    """Whether a metric is the same for all of some viewers, (PARTS, V), or has no denominator."""
    if metric.denominator is not None and not totals[PARTS.index(metric.denominator)].any():
        return True
    return bool(np.ptp(totals[PARTS.index(metric.numerator)]) == 0)


def _before(part: str) -> str:
    return f"{part}_before"
