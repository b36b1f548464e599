"""The off-policy estimates' own report card: `make bench-offpolicy`; SHORT=1 for half a minute.

Simulated logs whose truth is known: 1,000 living viewers, 12 places each, 10 candidates a place,
one of them shown by lot; 12 policies from the worst order to the best; a model half right as q. Two
lotteries: all candidates alike, and one that leans, so that each row has its own propensity. The
truth is the policies' mean over all viewers of the world, ten times those of the log.

seeds -> logs -> estimates -> table on stdout, benchmarks/out/offpolicy.json, docs/offpolicy.svg
"""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from tests.simulation.random_slates import RandomSlates, random_slates

import skipwise
from skipwise.evaluation.offpolicy import (
    ESTIMATORS,
    Estimates,
    Logged,
    estimate,
    first_place,
    report_card,
)

mpl.use("Agg")
from matplotlib import pyplot as plt

SHORT = bool(os.environ.get("SHORT"))
SEEDS = range(4 if SHORT else 20)
LOG_VIEWERS, TIMES_AS_MANY, STEPS, CANDIDATES = 1000, 10, 12, 10
LIKINGS = np.linspace(-2.0, 4.0, 12)
"""Of a policy: how much it avoids glances; below 0 it seeks them."""
LOTTERIES = {"all alike": 0.0, "leaning, a propensity per row": 0.5}
OUT = Path(__file__).parent / "out"
PLOT = OUT / "offpolicy-short.svg" if SHORT else OUT.parents[1] / "docs" / "offpolicy.svg"


def judged(slates: RandomSlates, seed: int) -> tuple[list[Estimates], list[float]]:
    """Estimate every policy on the log's viewers, and say what it brings on all."""
    rng = np.random.default_rng([seed, 3])
    shape, logged = slates.p_glance.shape, slates.viewer < LOG_VIEWERS
    q = np.clip(0.5 * slates.p_glance + 0.3 + 0.1 * rng.standard_normal(shape), 0.0, 1.0)
    estimates, truths = [], []
    for liking in LIKINGS:
        target = first_place(-liking * slates.p_glance + 0.3 * rng.standard_normal(shape))
        truths.append(float((target * slates.p_glance).sum(axis=1).mean()))
        rows = Logged(
            viewer=slates.viewer[logged],
            outcome=slates.glance[logged],
            propensity=slates.propensity[logged],
            target=target[logged, 0],
            predicted=q[logged, 0],
            predicted_target=(target * q)[logged].sum(axis=1),
        )
        estimates.append(estimate(rows))
    return estimates, truths


def main() -> None:
    """Grade over seeds, print, draw and write."""
    started = time.time()
    rows: list[dict[str, Any]] = []
    errors: dict[str, Any] = {}
    for lottery, lean in LOTTERIES.items():
        cards, effective, misses, true = [], [], [], []
        for seed in SEEDS:
            slates = random_slates(
                viewers=LOG_VIEWERS * TIMES_AS_MANY,
                steps=STEPS,
                candidates=CANDIDATES,
                seed=seed,
                lean=lean,
            )
            estimates, truths = judged(slates, seed)
            cards.append(report_card(estimates, truths))
            effective.append([each.effective_rows for each in estimates])
            true.append(truths)
            misses.append(
                [
                    [each.by[name].value - truth for name in ESTIMATORS]
                    for each, truth in zip(estimates, truths, strict=True)
                ]
            )
        errors[lottery] = np.array(true), np.array(misses)
        for name in ESTIMATORS:
            own = [card[name] for card in cards]
            rows.append(
                {
                    "lottery": lottery,
                    "estimator": name,
                    "mean_error": _told([each.mean_error for each in own]),
                    "covered": _told([each.covered for each in own]),
                    "rank_correlation": _told([each.rank_correlation for each in own]),
                    "lowest_rank_correlation": min(each.rank_correlation for each in own),
                    "effective_rows": [float(f(effective)) for f in (np.min, np.mean, np.max)],
                }
            )
    show(rows)
    draw(errors)
    write(rows)
    print(f"{len(SEEDS)} seeds, {len(LIKINGS)} policies, {time.time() - started:.0f} s; {PLOT}")


def _told(values: list[float]) -> dict[str, float]:
    """Mean over seeds, and 1.96 standard errors of it."""
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    return {"mean": float(np.mean(values)), "plus_minus": float(1.96 * spread)}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the card: shares of glances in points, intervals over seeds."""
    print(f"{'':32}{'error, points':>16}{'truth covered':>16}{'rank corr. (least)':>22}")
    for row in rows:
        error, covered, rank = row["mean_error"], row["covered"], row["rank_correlation"]
        print(
            f"{row['lottery'][:16]:18}{row['estimator']:14}"
            f"{100 * error['mean']:9.2f} ±{100 * error['plus_minus']:5.2f}"
            f"{covered['mean']:9.1%} ±{covered['plus_minus']:5.1%}"
            f"{rank['mean']:12.4f} ({row['lowest_rank_correlation']:.3f})"
        )
    for lottery in LOTTERIES:
        low, mean, high = next(r["effective_rows"] for r in rows if r["lottery"] == lottery)
        number = LOG_VIEWERS * STEPS
        print(f"{lottery}: of {number:,} rows {mean:,.0f} effective ({low:,.0f} to {high:,.0f})")


def draw(errors: dict[str, Any]) -> None:
    """Draw each estimator's error at each policy, one dot a seed."""
    figure, plots = plt.subplots(1, len(errors), figsize=(11, 3.8), sharey=True)
    for plot, (lottery, (true, misses)) in zip(plots, errors.items(), strict=True):
        for place, name in enumerate(ESTIMATORS):
            marker, shift = "osD^"[place], 0.25 * (place - 1.5)
            plot.plot(
                100 * true.ravel() + shift,
                100 * misses[:, :, place].ravel(),
                marker,
                markersize=3,
                alpha=0.5,
                label=name.replace("_", " "),
            )
        plot.axhline(0.0, color="black", linewidth=0.8)
        plot.set_title(f"lottery: {lottery}")
        plot.set_xlabel("true skip rate of the policy, % of views")
    plots[0].set_ylabel("estimate - truth, percentage points")
    plots[0].legend(fontsize=8)
    figure.tight_layout()
    OUT.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "skipwise"
    figure.savefig(PLOT, metadata={"Date": None, "Creator": None})


def write(rows: list[dict[str, Any]]) -> None:
    """Write the figures."""
    error = {(row["lottery"], row["estimator"]): row["mean_error"]["mean"] for row in rows}
    facts = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {"skipwise": skipwise.__version__, "numpy": np.__version__},
        "seeds": list(SEEDS),
        "rows": rows,
        "ratios": {
            f"error of the direct method over doubly robust, {lottery}": error[lottery, "direct"]
            / error[lottery, "doubly_robust"]
            for lottery in LOTTERIES
        },
    }
    (OUT / "offpolicy.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
