"""What do skips bring when they are used? `make bench-loop`, simulated; SHORT=1: one small world.

Living viewers are served by the real pipeline: control reads positives alone, learns no skip and
ranks by engagement; then skips in the encoder's input, as an objective, both, and in the score too.
One experiment per world, all arms at once; worlds are pooled with intervals. Each finished world is
kept under its code and size, and a second call of the same goes on with the next; the short form
keeps none. As many worlds at once as there are cores.

WORLDS=n, VIEWERS=n, DAYS=n change the size.
"""

import hashlib
import json
import math
import multiprocessing
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import torch
from benchmarks.quality_runs import code_fingerprint

from skipwise.cli.console import ConsoleProgress, draw_table, open_console
from skipwise.events.read import read_log
from skipwise.experiments.analysis import ratio_p_value
from skipwise.experiments.definition import Definition, Goal, Variant
from skipwise.experiments.effects import effects_on
from skipwise.experiments.exposure import EXPOSURES_FILE, read_exposures
from skipwise.experiments.metrics import METRICS
from skipwise.experiments.panel import make_panel
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import prepare
from skipwise.loop.closed import run_closed_loop
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.settings import apply_settings, parse_overrides
from skipwise.simulation.log import simulate
from skipwise.simulation.world import FIRST_DAY, WorldSettings
from skipwise.storage import checksum, write_json
from skipwise.training.fit import train
from skipwise.training.settings import preset

SHORT = bool(os.environ.get("SHORT"))
WORLDS = int(os.environ.get("WORLDS", "1" if SHORT else "5"))
VIEWERS = int(os.environ.get("VIEWERS", "150" if SHORT else "1000"))
DAYS = int(os.environ.get("DAYS", "2" if SHORT else "6"))
PAST_DAYS = 4 if SHORT else 8
OUT = Path(__file__).parent / "out"

NO_SKIP_INPUT = ("model.encoder.past=positives", "model.inputs.use_skips=false")
NO_SKIP_OBJECTIVE = ("loss.glance=0", "loss.negative=0")
PLAIN = ("model.objectives.relation=independent", "model.objectives.watch=log")
"""No watch curve, which would tell of skips where the objective is off."""
MODELS: Mapping[str, tuple[str, ...]] = {
    "neither": (*PLAIN, *NO_SKIP_INPUT, *NO_SKIP_OBJECTIVE),
    "encoder": (*PLAIN, *NO_SKIP_OBJECTIVE),
    "objective": (*PLAIN, *NO_SKIP_INPUT),
    "both": PLAIN,
}
ARMS: Mapping[str, tuple[str, str]] = {
    "control": ("neither", "engagement.json"),
    "+ feedback-aware encoder": ("encoder", "engagement.json"),
    "+ skip objective": ("objective", "engagement.json"),
    "+ both": ("both", "engagement.json"),
    "+ both, skip in the score": ("both", "skip.json"),
}
ENGAGEMENT = ScoreWeights(glance_power=0.0, negative_power=0.0)


def kept_folder(*depends_on: object) -> Path:
    """Name where worlds are kept that depend on these things; others look elsewhere."""
    return OUT / f"loop-{hashlib.sha256(repr(depends_on).encode()).hexdigest()[:16]}"


SIZE = (SHORT, VIEWERS, DAYS, PAST_DAYS)
CODE = (code_fingerprint(["."]), checksum(Path(__file__)), torch.__version__)
KEPT = kept_folder(SIZE, CODE)
SHOWN = (
    "watch_per_viewer",
    "glance_rate",
    "effective_rate",
    "long_rate",
    "finished_rate",
    "negatives_rate",
    "views_per_viewer",
    "sessions_per_viewer",
    "return_rate",
)


def main() -> None:
    """Run the worlds that are not kept yet, then pool and print."""
    started, cores = time.time(), len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        worlds = list(pool.map(world_card, range(WORLDS)))
    rows = [pooled(worlds, arm, metric) for arm in list(ARMS)[1:] for metric in SHOWN]
    console = open_console()
    title = f"SIMULATED: {WORLDS} worlds x {VIEWERS:,} viewers x {DAYS} days; % of control, 95 %"
    arms = list(ARMS)[1:]
    cells = [[name, *(_text(rows, arm, name) for arm in arms)] for name in SHOWN]
    console.print(draw_table(title, ("metric", *arms), cells))
    console.print("* better, ! worse: the interval is clear of zero. Not corrected for many looks.")
    _check(worlds)
    out = {
        "simulated": True,
        "machine": platform.platform(),
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "seeds": list(range(WORLDS)),
        "rows": rows,
        "worlds": worlds,
    }
    write_json(OUT / ("loop-short.json" if SHORT else "loop.json"), out)
    spent, now = sum(world["wall_s"] for world in worlds), time.time() - started
    print(f"{spent:.0f} s of one core for all worlds; {now:.0f} s now, on {cores} cores")


def world_card(seed: int) -> dict[str, Any]:
    """Return what came of a world, run now unless it is kept."""
    torch.set_num_threads(1)
    return (None if SHORT else _kept(seed)) or run_world(seed)


def run_world(seed: int) -> dict[str, Any]:
    """Simulate, train the four models, let the five arms serve, and analyse."""
    started, folder = time.time(), KEPT / f"world-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = WorldSettings(
        viewers=VIEWERS,
        videos=600,
        authors=120,
        topics=16,
        days=PAST_DAYS,
        views_per_viewer_day=10.0,
        living=True,
        seed=seed,
    )
    simulate(folder / "world", world)
    connection = ibis.duckdb.connect(threads=1)
    prepare(read_log(folder / "world", connection), connection, folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    for name, words in MODELS.items():
        budget = (f"passes_at_most={2 if SHORT else 4}", "refit=false")
        settings = apply_settings(
            preset("tiny"), parse_overrides([*words, *budget, f"seed={seed}"])
        )
        train(dataset, folder / name, settings)
        print(f"world {seed}: {name} trained, {time.time() - started:.0f} s", file=sys.stderr)
    save_score_weights(folder / "engagement.json", ENGAGEMENT)
    save_score_weights(folder / "skip.json", ScoreWeights())
    definition = replace(definition_of(seed), folder=folder)
    facts = run_closed_loop(
        folder / "world",
        folder / "dataset",
        definition,
        folder / "log",
        seed=seed,
        progress=ConsoleProgress(),
    )
    log = read_log(folder / "log", connection)
    exposures = read_exposures(definition, folder / "log" / EXPOSURES_FILE, log.events)
    panel = make_panel(log, connection, definition, exposures)
    counts = np.bincount(panel.variant, minlength=len(ARMS))
    effects = effects_on(panel, definition, panel.num_days - 1, SHOWN)  # of what varies at all
    card = {
        "world": seed,
        "wall_s": time.time() - started,
        "loop": asdict(facts),
        "viewers": dict(zip(ARMS, counts.tolist(), strict=True)),
        "ratio_p_value": ratio_p_value(counts, [0.2] * len(ARMS)),
        "effects": [asdict(each) for each in effects],
    }
    write_json(KEPT / f"world-{seed}.json", card)
    shutil.rmtree(folder)
    return card


def definition_of(seed: int) -> Definition:
    """Return the experiment of a world: five arms of equal shares."""
    return Definition(
        name=f"table-{seed}",
        start=str(np.datetime64(FIRST_DAY + PAST_DAYS, "D")),
        days=DAYS,
        covariate_days=PAST_DAYS,
        minimum_viewers=10,
        variants=tuple(
            Variant(name=name, share=0.2, model=model, score=score)
            for name, (model, score) in ARMS.items()
        ),
        metrics=tuple(Goal(name=name) for name in SHOWN),
    )


def pooled(worlds: Sequence[Mapping[str, Any]], arm: str, metric: str) -> dict[str, Any]:
    """Pool relative effects over worlds, which differ (DerSimonian and Laird 1986).

    w_i = 1 / (s_i^2 + tau^2), tau^2 from Cochran's Q; 95 % by the normal.
    """
    own = [
        each
        for world in worlds
        for each in world["effects"]
        if each["treatment"] == arm and each["metric"] == metric
    ]
    if not own:
        nothing = dict.fromkeys(("relative", "low", "high"))
        return {"arm": arm, "metric": metric, "verdict": "not known", **nothing, "by_world": []}
    effect = np.array([each["relative"] for each in own], dtype=float)
    bounds = np.array([[each["relative_low"], each["relative_high"]] for each in own], dtype=float)
    error = (bounds[:, 1] - bounds[:, 0]) / (2 * 1.959964)
    w = error**-2.0
    fixed = np.average(effect, weights=w)
    q = float((w * (effect - fixed) ** 2).sum())
    spread = 0.0  # of one world nothing is known of how worlds differ
    if len(own) > 1:
        spread = max(0.0, (q - (len(own) - 1)) / (w.sum() - (w**2).sum() / w.sum()))
    w = 1 / (error**2 + spread)
    value, half = float(np.average(effect, weights=w)), 1.959964 / math.sqrt(w.sum())
    clear = abs(value) > half
    better = "better" if (value > 0) == (METRICS[metric].better == "up") else "worse"
    return {
        "arm": arm,
        "metric": metric,
        "relative": value,
        "low": value - half,
        "high": value + half,
        "verdict": better if clear else "not clear",
        "by_world": effect.tolist(),
    }


def _text(rows: Sequence[Mapping[str, Any]], arm: str, metric: str) -> str:
    (row,) = [row for row in rows if row["arm"] == arm and row["metric"] == metric]
    if row["relative"] is None:
        return "-"
    mark = {"better": " *", "worse": " !", "not clear": ""}[row["verdict"]]
    return f"{100 * row['relative']:+.1f} ±{50 * (row['high'] - row['low']):.1f}{mark}"


def _check(worlds: Sequence[Mapping[str, Any]]) -> None:
    alarms = [world["world"] for world in worlds if world["ratio_p_value"] < 0.001]
    if alarms:
        raise SystemExit(f"sample ratio alarm in worlds {alarms}: do not read the table")


def _kept(seed: int) -> dict[str, Any] | None:
    path = KEPT / f"world-{seed}.json"
    if not path.is_file():
        return None
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return held


if __name__ == "__main__":
    main()
