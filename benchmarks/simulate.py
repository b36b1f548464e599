"""How many impressions a second are simulated? `make bench-simulate`, one core.

Sessions drawn beforehand, and living viewers, whose outcomes decide what comes next; each with the
truth of every impression, in memory and as written by `skipwise simulate`. Seconds are those of
the processor, which others do not lengthen; the slowest and the fastest of three rounds are told.
Fails where the fastest in memory is below what is promised.
"""

import dataclasses
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skipwise.simulation.log import simulate, simulate_tables
from skipwise.simulation.world import WorldSettings

OUT = Path(__file__).parent / "out" / "simulate.json"
PROMISED, ROUNDS = 200_000, 3
WORLD = WorldSettings(viewers=20_000)


def main() -> None:
    """Print the rates, then check those in memory."""
    rates, too_slow = {}, []
    for living in (False, True):
        settings = dataclasses.replace(WORLD, living=living)
        number = simulate_tables(settings)["events"].num_rows
        kind = "living viewers" if living else "sessions drawn beforehand"
        print(f"{kind}: {number:,} impressions", flush=True)
        for what, made in (("in memory", simulate_tables), ("written", written)):
            low, high = rates_of(number, partial(made, settings))
            rates[f"{kind}, {what}"] = (low, high)
            print(f"{kind}, {what}: {low:,.0f} to {high:,.0f} impressions/s", flush=True)
            if what == "in memory" and high < PROMISED:
                too_slow.append(f"{kind}: {high:,.0f}/s, must be at least {PROMISED:,}")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"at most {peak_gib:.2f} GiB of memory")
    OUT.parent.mkdir(exist_ok=True)
    about = {"machine": platform.platform(), "seed": WORLD.seed, "peak_gib": peak_gib}
    OUT.write_text(json.dumps({**about, "rates": rates}, indent=1) + "\n")
    if too_slow:
        raise SystemExit("; ".join(too_slow))


def rates_of(number: int, made: Callable[[], object]) -> tuple[float, float]:
    """Return the least and the greatest rate of several rounds, impressions per CPU second."""
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        made()
        rates.append(number / (time.process_time() - started))
    return min(rates), max(rates)


def written(settings: WorldSettings) -> None:
    """Write the world to a folder that is then removed."""
    with tempfile.TemporaryDirectory(prefix="skipwise-simulate-") as folder:
        simulate(Path(folder) / "world", settings)


if __name__ == "__main__":
    main()
