"""How fast is a network trained, and against whom? `make bench-train` (SHORT=1: a few minutes).

Each line is a process of its own on one thread, on made-up rows of the same shape; the measure is
impressions per CPU second, which other work on the machine disturbs least. Rounds are interleaved,
the best of each is kept. Peers: their own model code and optimizer, in environments of their own.
All start as `skipwise train` does, with jemalloc where it is; SKIPWISE_ALLOCATOR=system leaves it
out of all.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.made import OBJECTIVES, made_dataset

import skipwise
from skipwise.cli.launch import allocator, library, preloading

HERE = Path(__file__).parent
OUT = HERE / "out" / "train.json"
VIDEOS = 10_000
OURS = [sys.executable, "-m", "benchmarks.train_one"]
PEERS = {
    "rechub": ("rechub.py", ("DIN", "MMOE", "PLE")),
    "deepctr": ("deepctr.py", ("DIN",)),
}
"""environment -> its script, its networks."""


def main() -> None:
    """Measure, print a table, write JSON."""
    short = bool(os.environ.get("SHORT"))
    rounds, ours_batches, each_batches, peer_rows = (1, 6, 4, 4096) if short else (3, 8, 8, 16_384)
    best: dict[tuple[str, int], dict[str, Any]] = {}
    print(f"every line: {allocator(environment())}")
    with tempfile.TemporaryDirectory() as folder:
        for history in (100, 200):
            write_rows(Path(folder) / str(history), history, peer_rows)
        for _ in range(rounds):
            for history in (100, 200):
                runs = [
                    [*OURS, "once", str(history), str(ours_batches)],
                    [*OURS, "each", str(history), str(each_batches)],
                    *peers(Path(folder) / str(history)),
                ]
                for command in runs:
                    found = {"history": history, **run(command)}
                    key = (found["net"], history)
                    before = best.get(key, found)["impressions_per_cpu_s"]
                    if found["impressions_per_cpu_s"] >= before:
                        best[key] = found
            report(sorted(best.values(), key=_by_history_and_speed))  # a cut-off run keeps these


def _by_history_and_speed(row: dict[str, Any]) -> tuple[int, float]:
    return row["history"], -row["impressions_per_cpu_s"]


def peers(rows: Path) -> list[list[str]]:
    """Return the commands of those peers whose environment was made."""
    commands = []
    for name, (script, nets) in PEERS.items():
        python = HERE / "peers" / f".venv-{name}" / "bin" / "python"
        if not python.exists():
            print(f"{name}: left out, its environment was not made; `make bench-train` makes it")
            continue
        commands += [
            [str(python), str(HERE / "peers" / script), str(rows), net, str(VIDEOS)] for net in nets
        ]
    return commands


def environment() -> dict[str, str]:
    """Return what every line is started with, ours and peers' alike."""
    plain = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return preloading(["skipwise", "train"], plain, library()) or plain


def run(command: list[str]) -> dict[str, Any]:
    """Run one measurement and read the JSON of its last line."""
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{found['net']:32} {found['impressions_per_cpu_s']:10,.0f} impressions per CPU second")
    return found


def write_rows(folder: Path, history: int, number: int) -> None:
    """Write impressions as peers read them: each with its own copy of the last `history` videos."""
    folder.mkdir()
    each = history + 512
    dataset = made_dataset(-(-number // 512), each, VIDEOS)
    events = {name: column.all() for name, column in dataset.events.items()}
    row = np.flatnonzero(np.arange(len(events["video"])) % each >= history)[:number]
    columns = {
        "video": events["video"][row].astype(np.int64) + 1,
        "past": events["video"][row[:, None] - history + np.arange(history)].astype(np.int64) + 1,
        "surface": events["surface"][row].astype(np.int64),
        "hour": events["hour"][row].astype(np.int64),
        "counters": np.log1p(dataset.counters_day.take(events["counter_row"][row])),
        "labels": np.stack([events[f"label_{name}"][row] for name in OBJECTIVES], 1),
    }
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table and the ratios, and write them."""
    ratios = {}
    for history in (100, 200):
        speed = {
            row["net"]: row["impressions_per_cpu_s"] for row in rows if row["history"] == history
        }
        ours = speed["ours, encoded once"]
        din = [value for name, value in speed.items() if name.endswith("DIN")]
        ratios[f"over the same net per impression, history {history}"] = (
            ours / speed["ours, encoded per impression"]
        )
        if din:
            ratios[f"over the fastest DIN, history {history}"] = ours / max(din)
        for name, value in speed.items():
            if name.endswith(("MMOE", "PLE")):
                ratios[f"over {name}, history {history}"] = ours / value
    for row in rows:
        flop = row.get("mflop_per_impression")
        in_bf16 = "bf16_" if row.get("precision") == "bf16" else ""
        share = row["gflop_per_cpu_s"] / row[f"gemm_{in_bf16}gflop_per_cpu_s"] if flop else None
        row["share_of_gemm_peak"] = share
        print(
            f"history {row['history']}  {row['net']:32}"
            f" {row['impressions_per_cpu_s']:8,.0f} per CPU s {row['impressions_per_s']:8,.0f} /s"
            f"  {row['peak_mib']:6,.0f} MiB"
            + (f"  {flop:.2f} MFLOP each, {share:.0%} of the GEMM peak" if flop and share else "")
            + (f"  batches of {row['batch']:,}" if "batch" in row else "")
            + (f"  {row['precision']}, {row['tokens']:,} events a batch" if "tokens" in row else "")
        )
        parts = row.get("ms_per_1000_impressions", {})
        if parts:
            said = ", ".join(f"{name} {ms:.1f}" for name, ms in parts.items())
            print(f"{'':13}of {sum(parts.values()):.0f} ms of CPU per 1,000: {said}")
    for name, value in ratios.items():
        print(f"{value:6.1f} x {name}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    facts = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": 1,
            "load": os.getloadavg()[0],
            "allocator": allocator(environment()),
        },
        "versions": {"skipwise": skipwise.__version__, "torch": torch.__version__},
        "commit": commit,
        "seeds": [0],
        "rows": rows,
        "ratios": ratios,
    }
    OUT.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
