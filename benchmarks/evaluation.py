"""How long does a release-sized evaluation take? `make bench-evaluation` (SHORT=1: a tenth).

75,000 rows of 7,500 viewers, 8 objectives, 1,000 draws of viewers; wall and CPU seconds.
"""

import json
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np

import skipwise
from skipwise.evaluation.scorecard import EvaluationSettings, Scored, scorecard

ROWS_PER_VIEWER = 10
NUM_OBJECTIVES = 8
OUT = Path(__file__).parent / "out" / "evaluation.json"


def rows_of(num_viewers: int, seed: int = 0) -> Scored:
    """Draw rows with one planted signal per objective."""
    generator = np.random.default_rng(seed)
    number = num_viewers * ROWS_PER_VIEWER
    taste = generator.normal(size=number)
    chance = 1 / (1 + np.exp(-taste))
    watch_s = generator.exponential(20, number)
    viewer = np.repeat(np.arange(num_viewers), ROWS_PER_VIEWER)
    names = [f"objective_{place}" for place in range(NUM_OBJECTIVES)]
    return Scored(
        viewer=viewer,
        group=viewer,
        visible=np.full(number, 50),
        labels={name: (generator.random(number) < chance).astype(np.int8) for name in names},
        probabilities=dict.fromkeys(names, chance),
        watch_s=watch_s,
        expected_watch_s=watch_s * generator.lognormal(0, 1, number),
        duration_s=np.full(number, 60.0),
        slices={"half": viewer % 2},
    )


def main() -> None:
    """Time one scorecard and write what came out."""
    short = bool(os.environ.get("SHORT"))
    num_viewers, samples = (750, 100) if short else (7500, 1000)
    scored = rows_of(num_viewers)
    wall, cpu = time.perf_counter(), time.process_time()
    scorecard(scored, settings=EvaluationSettings(bootstrap_samples=samples))
    row = {
        "rows": scored.num_rows,
        "objectives": NUM_OBJECTIVES,
        "draws": samples,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in row.items():
        print(f"{name:>12}  {value:,.1f}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    versions = {"skipwise": skipwise.__version__, "numpy": np.__version__}
    machine = {"processor": platform.machine(), "cores": os.cpu_count()}
    OUT.write_text(
        json.dumps(
            {"machine": machine, "versions": versions, "seeds": [0], "rows": [row]}, indent=1
        )
    )


if __name__ == "__main__":
    main()
