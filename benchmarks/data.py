"""From the raw log to training files: `make bench-data` (SHORT=1: a few minutes).

Simulated worlds of 1, 5, 20 and 100 million events (SIZES=1,20 chooses others), prepared on DuckDB
with two threads, and of 0.1 million on both engines. Each preparation runs in a process of its own;
seconds of the wall and of the processors, peak memory of the process, bytes written. Writes
`out/data.json` and `out/data.png`, the growth. 100 million events take 85 GB of disk on the way;
COUNTED=glance,effective counts two outcomes in place of all and takes 58. SCRATCH names the folder
they go to.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from skipwise.cli.arguments import data_engine
from skipwise.engine import open_spark
from skipwise.events.read import read_log
from skipwise.events.transfer import move_log
from skipwise.features.prepare import prepare, settings_of
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings

OUT = Path(__file__).parent / "out"
SEED = 0
MEMORY_GIB = float(os.environ.get("MEMORY", "5"))
"""What DuckDB may take; the process takes more, for Arrow batches and Python."""
THREADS = 2
COUNTED = tuple(os.environ.get("COUNTED", "").split(",")) if os.environ.get("COUNTED") else None
"""Whose outcomes are counted; None: all that the log can tell."""
SPARK_MILLIONS = 0.1
"""What is feasible for Spark beside DuckDB on one machine in a few minutes."""


def world(millions: float) -> WorldSettings:
    """Return a world of so many events: viewers, videos and authors grow with it."""
    viewers = round(millions * 15_625)  # x 8 days x 8 views
    return WorldSettings(
        viewers=viewers,
        videos=max(500, viewers * 16 // 25),
        authors=max(100, viewers // 8),
        topics=40,
        seed=SEED,
    )


def prepare_once(log: Path, out: Path, engine: str) -> dict[str, Any]:
    """Read and prepare a log in this process; returns what it took."""
    started, busy = time.perf_counter(), time.process_time()
    with data_engine(MEMORY_GIB, THREADS) as connection:
        read = read_log(log, connection)
        read_s, read_cpu_s = time.perf_counter() - started, time.process_time() - busy
        settings = settings_of(read.description)
        if COUNTED:
            settings = replace(settings, counters=replace(settings.counters, counted=COUNTED))
        if engine == "duckdb":
            prepare(read, connection, out, settings)
        else:
            options = {"spark.driver.memory": "3g", "spark.ui.showConsoleProgress": "false"}
            moved = out.parent / "moved"
            moved.mkdir()
            with open_spark(f"local[{THREADS}]", str(moved / "steps"), options) as cluster:
                prepare(move_log(read, connection, cluster, moved), cluster, out, settings)
    return {
        "read_s": read_s,
        "prepare_s": time.perf_counter() - started - read_s,
        "read_cpu_s": read_cpu_s,
        "prepare_cpu_s": None if engine == "spark" else time.process_time() - busy - read_cpu_s,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "bytes": sum(file.stat().st_size for file in out.iterdir()),
    }


def measure(millions: float, engine: str, log: Path, folder: Path) -> dict[str, Any]:
    """Prepare a log in a process of its own; returns a row of the report."""
    ours = [sys.executable, "-m", "benchmarks.data", "--one"]
    command = [*ours, str(log), str(folder / "dataset"), engine]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    description = json.loads((folder / "dataset" / "dataset.json").read_text())
    events = description["num_events"]
    return {
        "engine": engine,
        "millions": millions,
        "events": events,
        "events_per_s": events / (found["read_s"] + found["prepare_s"]),
        "memory_setting_gib": MEMORY_GIB,
        "threads": THREADS,
        **found,
    }


def main() -> None:
    """Measure every size, print a table, write the JSON and the plot."""
    short = bool(os.environ.get("SHORT"))
    sizes = [
        float(size) for size in os.environ.get("SIZES", "1" if short else "1,5,20,100").split(",")
    ]
    rows = []
    for millions in sorted({SPARK_MILLIONS, *sizes}):
        for engine in ("duckdb", "spark") if millions == SPARK_MILLIONS else ("duckdb",):
            with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as name:
                folder = Path(name)
                simulate(folder / "log", world(millions), truth=False)
                row = measure(millions, engine, folder / "log", folder)
            rows.append(row)
            print("  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
    write_report(rows)


def write_report(rows: list[dict[str, Any]]) -> None:
    """Write `out/data.json` and `out/data.png`."""
    OUT.mkdir(parents=True, exist_ok=True)
    on_duckdb = [row for row in rows if row["engine"] == "duckdb"]
    by_engine = {row["engine"]: row for row in rows if row["millions"] == SPARK_MILLIONS}
    first, last = on_duckdb[0], on_duckdb[-1]
    ratios = {
        "cpu_per_event_last_to_first": _cpu_per_event(last) / _cpu_per_event(first),
        "peak_memory_last_to_first": last["peak_gib"] / first["peak_gib"],
        "events_per_s_duckdb_to_spark": by_engine["duckdb"]["events_per_s"]
        / by_engine["spark"]["events_per_s"],
    }
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
        cwd=OUT.parent,
    ).stdout.strip()
    packages = ("skipwise", "duckdb", "ibis-framework", "pyspark", "pyarrow", "numpy")
    report = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in packages},
        "commit": commit,
        "seeds": [SEED],
        "counted": COUNTED,
        "rows": rows,
        "ratios": ratios,
    }
    (OUT / "data.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(on_duckdb, OUT / "data.png")


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw processor seconds per million events and peak memory against the size of the log."""
    sizes = [row["events"] / 1e6 for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(sizes, [1e6 * _cpu_per_event(row) for row in rows], "o-")
    left.set(xscale="log", ylim=(0, None), ylabel="processor seconds per million events")
    right.plot(sizes, [row["peak_gib"] for row in rows], "o-", label="peak of the process")
    right.axhline(8, linestyle=":", color="grey", label="8 GiB")
    right.set(xscale="log", ylim=(0, None), ylabel="GiB")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("million events")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _cpu_per_event(row: dict[str, Any]) -> float:
    return float((row["read_cpu_s"] + row["prepare_cpu_s"]) / row["events"])


def _short(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(prepare_once(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])))
    else:
        main()
