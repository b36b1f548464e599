"""Are experiments honest? `make bench-experiments`; SHORT=1 for a form of a minute.

A/A: the same viewers and outcomes, assigned anew each time. False alarms at the end (of five times
as many runs, for one look costs little), with the fixed interval looked at daily, and with the
confidence sequence looked at daily. Then planted effects against the planned power, and viewers
lost from one variant against the sample-ratio alarm.
"""

import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from scipy.stats import binomtest
from tests.experiments.planted import (
    DEFINITION,
    lifted,
    made_panel,
    planned_lift,
    reassigned,
)

from skipwise.experiments.analysis import ratio_p_value
from skipwise.experiments.correction import corrected
from skipwise.experiments.definition import Definition
from skipwise.experiments.effects import effects_on
from skipwise.experiments.panel import Panel
from skipwise.experiments.verdict import RATIO_ALARM

SHORT = bool(os.environ.get("SHORT"))
RUNS = 200 if SHORT else 1000
END_RUNS = 5 * RUNS
DAYS = 14
METRICS = ("watch_per_viewer", "glance_rate", "return_rate")
OUT = Path(__file__).parent / "out" / "experiments.json"

Row = dict[str, float | str]
"""What was tried, the share of the runs in which it was found, and that share's interval."""


def main() -> None:
    """Run all three and print a table."""
    started = time.time()
    definition = dataclasses.replace(DEFINITION, days=DAYS, minimum_viewers=100)
    rows = [*false_alarms(definition), *power(definition), *ratio_alarms()]
    for row in rows:
        print(f"{row['what']:90} {row['share']:7.1%}  ({row['low']:.1%} to {row['high']:.1%})")
    OUT.parent.mkdir(exist_ok=True)
    machine = {"machine": platform.platform(), "seeds": [0], "runs": RUNS, "end_runs": END_RUNS}
    OUT.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    took = f"{time.time() - started:.0f} s"
    print(f"{RUNS} runs each, {END_RUNS} of one look at the end and of power, {took}; {OUT}")


def false_alarms(definition: Definition) -> list[Row]:
    """Count the A/A runs in which each way of looking says there is an effect."""
    rng = np.random.default_rng(0)
    panel = made_panel(rng, viewers=1000, days=DAYS)
    counts = {(way, name): 0 for name in METRICS for way in ("end", "peek", "always")}
    for run in range(END_RUNS):
        again = reassigned(panel, rng.integers(0, 2, 1000))
        days = range(DAYS) if run < RUNS else (DAYS - 1,)
        looks = [effects_on(again, definition, day, METRICS) for day in days]
        for name in METRICS:
            own = [each for look in looks for each in look if each.metric == name]
            counts["end", name] += own[-1].p_value < definition.alpha
            if run >= RUNS:
                continue
            counts["peek", name] += any(each.p_value < definition.alpha for each in own)
            counts["always", name] += any(
                each.always_low > 0 or each.always_high < 0 for each in own
            )
    words = {
        "end": "A/A, one look at the end",
        "peek": "A/A, fixed interval looked at daily",
        "always": "A/A, confidence sequence looked at daily",
    }
    runs = {"end": END_RUNS, "peek": RUNS, "always": RUNS}
    return [_row(f"{words[way]}: {name}", n, runs[way]) for (way, name), n in counts.items()]


def power(definition: Definition) -> list[Row]:
    """Plant the effect that is to be found with 80 %, and count how often it is.

    In proportion, the treated vary (1 + lift) times as much as the plan supposes, so what is
    expected is Phi((z_a/2 + z_power) / sqrt((1 + (1 + lift)^2) / 2) - z_a/2).
    """
    rng, z = np.random.default_rng(1), NormalDist()
    one = dataclasses.replace(definition, metrics=definition.metrics[:1])
    rows = []
    for tried, metrics in ((one, METRICS[:1]), (definition, METRICS[:2])):
        lift, found = planned_lift(tried, rng, viewers=1000), 0
        for _ in range(END_RUNS):
            panel = lifted(made_panel(rng, viewers=1000, days=DAYS), lift)
            found += _found(panel, tried, metrics)
        what = f"the same {lift:.1%} for everyone, {len(metrics)} metrics, planned power 80 %"
        rows.append(_row(what, found, END_RUNS))
    lift, found = planned_lift(one, rng, viewers=1000), 0
    for _ in range(END_RUNS):
        found += _found(made_panel(rng, viewers=1000, days=DAYS, lift=lift), one, METRICS[:1])
    level = z.inv_cdf(1 - one.alpha / 2)
    grown = ((1 + (1 + lift) ** 2) / 2) ** 0.5
    expected = z.cdf((level + z.inv_cdf(one.power)) / grown - level)
    what = f"in proportion, {lift:.1%} of what each watches, expected {expected:.1%}"
    return [*rows, _row(what, found, END_RUNS)]


def _found(panel: Panel, definition: Definition, metrics: Sequence[str]) -> bool:
    told = corrected(effects_on(panel, definition, DAYS - 1, metrics), definition)
    return told[0].p_adjusted < definition.alpha


def ratio_alarms() -> list[Row]:
    """Lose some viewers of the treatment; the alarm must be silent without and loud with."""
    rng = np.random.default_rng(2)
    rows = []
    for lost in (0.0, 0.05, 0.1):
        alarms = 0
        for _ in range(RUNS):
            control = int(rng.binomial(20_000, 0.5))
            kept = int(rng.binomial(20_000 - control, 1 - lost))
            alarms += ratio_p_value([control, kept], [0.5, 0.5]) < RATIO_ALARM
        rows.append(_row(f"sample-ratio alarm, {lost:.0%} of 10,000 viewers lost", alarms, RUNS))
    return rows


def _row(what: str, number: int, runs: int) -> Row:
    interval = binomtest(number, runs).proportion_ci()
    return {"what": what, "share": number / runs, "low": interval.low, "high": interval.high}


if __name__ == "__main__":
    main()
