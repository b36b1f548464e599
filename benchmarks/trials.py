"""How often is a model rolled back that is no worse, and one that is? `make bench-trials`.

Drawn viewers of two arms, looked at 20 times, about 200 views of each arm apart.
"""

import dataclasses

from scipy.stats import binomtest
from tests.serving.test_trial import STRICT, decision

from skipwise.serving.trial import TrialSettings

RUNS = 1000
DEFAULTS = dataclasses.replace(TrialSettings(), views_planned=4000)


def main() -> None:
    """Print the share of trials that end with a roll-back."""
    for what, settings, changed in (
        ("equal, nothing tolerated", STRICT, {}),
        ("equal, default tolerances", DEFAULTS, {}),
        ("skipped .05 more, default tolerances", DEFAULTS, {"skips": 0.05}),
        ("skipped .10 more, default tolerances", DEFAULTS, {"skips": 0.10}),
        ("skipped .15 more, default tolerances", DEFAULTS, {"skips": 0.15}),
        ("chances .05 off, default tolerances", DEFAULTS, {"bias": 0.05}),
        ("chances .10 off, default tolerances", DEFAULTS, {"bias": 0.10}),
    ):
        back = sum(decision(seed, settings, **changed) == "worse" for seed in range(RUNS))
        low, high = binomtest(back, RUNS).proportion_ci()
        print(f"{what:40} {back / RUNS:6.1%}  ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
