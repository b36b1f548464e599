"""Of several comparisons, which p-values still mean what they say?

    Effects of one day, Definition  ->  corrected  ->  the same, with adjusted p-values

Reads `effects` and `definition`; is read by `analysis`.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from skipwise.experiments.definition import Definition
from skipwise.experiments.effects import Effect, Floats


def corrected(
    effects: Sequence[Effect], definition: Definition, stopped: Collection[str] = ()
) -> list[Effect]:
    """Adjust the p-values of the metrics; guardrails are alarms and stay as they are.

    Args:
        effects: Of one day.
        definition: Says how.
        stopped: Treatments whose data decided when they are looked at: they have no p-value, and
            count as comparisons with p = 1.
    """
    goals = {goal.name for goal in definition.metrics}
    asked = [place for place, each in enumerate(effects) if each.metric in goals]
    fixed = [
        dataclasses.replace(each, p_value=np.nan) if each.treatment in stopped else each
        for each in effects
    ]
    if definition.correction == "none" or not asked:
        return [dataclasses.replace(each, p_adjusted=each.p_value) for each in fixed]
    adjusted = list(fixed)
    p_values = np.nan_to_num([fixed[place].p_value for place in asked], nan=1.0)
    for place, p in zip(asked, step_up(p_values, definition.correction), strict=True):
        if fixed[place].treatment not in stopped:
            adjusted[place] = dataclasses.replace(fixed[place], p_adjusted=float(p))
    return adjusted


def step_up(p_values: Floats, correction: str) -> Floats:
    """Adjust p-values by Hochberg ("fwer") or Benjamini-Hochberg ("fdr"), both step-up.

        p_(i) -> min over j >= i of c_j p_(j),  c_j = m - j + 1 (Hochberg), m / j (B-H)

    >>> step_up(np.array([0.01, 0.04]), "fdr").tolist()
    [0.02, 0.04]
    """
    m = len(p_values)
    order = np.argsort(p_values)
    rank = np.arange(1, m + 1)
    factor = m - rank + 1 if correction == "fwer" else m / rank
    least = np.minimum.accumulate((factor * p_values[order])[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(least, 1.0)
    return adjusted
