"""An experiment on living viewers, from their past to a log that can be analysed.

    WORLD, DATASET, Definition  ->  run_closed_loop  ->  OUT: the log, past and experiment together

- The viewers are those of WORLD, who go on living on the day after its last; what they did there is
  kept in front, so that an analysis can take variance out.
- The log is what a real one would be, with `variant`, and with the exposures that the servers noted
  (`exposures.jsonl`); `truth.parquet` of the loop's days is apart.
- The same world, models, definition and seed give the same log, byte for byte.

Reads `arms`, `days`, `served_exposures` and `simulation`; is read by the command line and `make
bench-loop`.
"""

import contextlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skipwise.errors import ExperimentError
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Definition
from skipwise.experiments.exposure import EXPOSURES_FILE
from skipwise.features.dataset import Dataset
from skipwise.loop.arms import open_arms
from skipwise.loop.days import Clock, Columns, Loop
from skipwise.loop.served_exposures import ServedExposures
from skipwise.progress import SILENT, Progress
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import START, open_store
from skipwise.settings import apply_settings
from skipwise.simulation.living import LivingViewers
from skipwise.simulation.log import BLOCK_VIEWS
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.watching import FLAG_NAMES
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings
from skipwise.storage import check_replaceable, replace_folder, write_json

MARKER = "loop.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopFacts:
    """What a run of the loop was like."""

    events: int
    requests: int
    wall_s: float


def read_world(folder: Path) -> WorldSettings:
    """Read the settings of a simulated world of living viewers.

    Raises:
        ExperimentError: The folder is no such world.
    """
    try:
        held = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ExperimentError(
            f"{folder} holds no world.json; it must be what `skipwise simulate` writes. Simulate a "
            "world first."
        ) from None
    settings = apply_settings(WorldSettings(), held)
    if not settings.living:
        raise ExperimentError(
            f"the viewers of {folder} do not live (living = false), so nothing they are shown "
            "could change what they do next; they must. Simulate with living=true."
        )
    return settings


def check_same_world(world: Path, dataset: Path) -> None:
    """Check that a dataset was prepared from a world, by its videos' lengths and its events.

    Raises:
        DatasetError: It is not a dataset.
        ExperimentError: It has other videos, or was read from another number of events.
    """
    held, made = Dataset.open(dataset), pq.read_table(world / "videos.parquet")
    read, there = held.description["num_rows_read"], pq.read_metadata(world / "events.parquet")
    lengths = pc.cast(pc.divide(pc.cast(made["duration_ms"], pa.float64()), 1000), pa.float32())
    length_of = dict(zip(made["video_id"].to_pylist(), lengths.to_pylist(), strict=True))
    names, held_s = held.videos["video_id"].to_pylist(), held.videos["duration_s"].to_pylist()
    same = [length_of.get(name) == length for name, length in zip(names, held_s, strict=True)]
    wrong = ""
    if read != there.num_rows:
        wrong = f"was prepared from {read:,} events, {world} has {there.num_rows:,}"
    elif not all(same):
        name = names[same.index(False)]
        wrong = f"has a video {name} that {world} has not, or has with another length"
    if wrong:
        raise ExperimentError(
            f"{dataset} {wrong}; it must be of that world, or one world's viewers would be served "
            "another's videos. Give the DATASET that `skipwise prepare` made of it."
        )


def crowd_of(settings: WorldSettings, rng: np.random.Generator) -> LivingViewers:
    """Return the viewers and videos of a world of one block, as its log was made with.

    Raises:
        ExperimentError: The world was simulated in several blocks.
    """
    if settings.viewers * settings.views_per_viewer_day * settings.days > BLOCK_VIEWS:
        raise ExperimentError(
            f"the world has {settings.viewers:,} viewers over {settings.days} days, more than the "
            f"loop can hold; at most {BLOCK_VIEWS:,} views may be wanted. Simulate a smaller one."
        )
    drawn = np.random.default_rng(settings.seed)
    viewers = draw_viewers(settings, drawn)
    return LivingViewers(settings, viewers, draw_videos(settings, drawn), rng)


def run_closed_loop(
    world: Path,
    dataset: Path,
    definition: Definition,
    out: Path,
    *,
    seed: int = 0,
    settings: ServeSettings | None = None,
    progress: Progress = SILENT,
) -> LoopFacts:
    """Run an experiment on the living viewers of a world, served by real engines.

    Args:
        world: Folder of `skipwise simulate ... living=true`.
        dataset: DATASET prepared from it: what the recommender knows at the start.
        definition: The experiment; it starts on the day after the world's last.
        out: Folder to write: a log in Skipwise's own form.
        seed: Of what viewers do.
        settings: Of the engines; None = as served, with 100 candidates.
        progress: Who is told how far it is.

    Raises:
        DatasetError: There is no such dataset.
        ExperimentError: The world, its dataset or the start does not fit.
    """
    known = read_world(world)
    check_same_world(world, dataset)
    check_replaceable(out, MARKER, "a log of the loop")
    first_day = known.days
    if definition.start_day != FIRST_DAY + first_day:
        after = np.datetime64(FIRST_DAY + first_day, "D")
        raise ExperimentError(
            f"start = {definition.start}, must be {after}, the day after the world's last. Mend it."
        )
    crowd = crowd_of(known, np.random.default_rng([known.seed, 17, seed]))
    clock, started = Clock(), time.perf_counter()
    clock.now_ms = definition.start_day * DAY_MS - UTC_OFFSET_MS
    ids = [f"u{number}" for number in range(known.viewers)]
    settings = settings or loop_settings(seed)
    with (
        tempfile.TemporaryDirectory(prefix="skipwise-loop-") as state,
        contextlib.closing(open_store(f"sqlite:{state}/state.db")) as store,
        replace_folder(out) as folder,
    ):
        with open_arms(definition, dataset, store, settings, clock) as arms:
            loop = Loop(
                crowd=crowd,
                arms=arms,
                variant_of=assign(definition, ids),
                clock=clock,
                rng=np.random.default_rng([known.seed, 19, seed]),
            )
            _write_log(loop, world, folder, range(first_day, first_day + definition.days), progress)
        ServedExposures(folder / EXPOSURES_FILE).pull(store, START)
        facts = LoopFacts(
            events=loop.num_events,
            requests=loop.num_requests,
            wall_s=time.perf_counter() - started,
        )
        write_json(folder / MARKER, {"world": known.seed, "seed": seed, "simulated": True})
    return facts


def loop_settings(seed: int) -> ServeSettings:
    """Return how the loop's engines serve: as any, but for fewer candidates."""
    start = ServeSettings(seed=seed)
    return apply_settings(start, {"slate": {"candidates": 100}})


def _write_log(loop: Loop, world: Path, folder: Path, days: range, progress: Progress) -> None:
    before = pq.read_table(world / "events.parquet")
    for name in ("videos.parquet", "viewers.parquet", "source.json"):
        shutil.copyfile(world / name, folder / name)
    with (
        pq.ParquetWriter(folder / "events.parquet", before.schema, compression="zstd") as events,
        progress.task("the loop", total=len(days), unit="days") as task,
    ):
        events.write_table(before)
        truths = []
        for day in days:
            rows = list(loop.live_day(day))
            if rows:
                columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
                table = _event_table(loop, columns, before.num_rows)
                events.write_table(table.cast(before.schema))
                truths.append(_truth_table(columns, before.num_rows))
            task.advance(note=f"{loop.num_events:,} events, {loop.num_requests:,} requests")
    if truths:
        pq.write_table(pa.concat_tables(truths), folder / "truth.parquet", compression="zstd")


def _event_table(loop: Loop, rows: Columns, events_before: int) -> pa.Table:
    videos, surfaces = loop.crowd.videos, loop.crowd.settings.habits.surfaces
    variant = np.array([name or "" for name in loop.variant_of])[rows["viewer"]]
    number, random = rows["video"].size, rows["random"]
    nothing = pa.nulls(number, pa.bool_())
    columns: dict[str, Any] = {
        "viewer_id": _ids("u", rows["viewer"]),
        "video_id": _ids("v", rows["video"]),
        "day": ((rows["shown_at_ms"] + UTC_OFFSET_MS) // DAY_MS).astype(np.int32),
        "shown_at_ms": rows["shown_at_ms"],
        "watch_ms": rows["watch_ms"],
        "duration_ms": videos.duration_ms[rows["video"]],
        "surface": pa.array(surfaces).take(pa.array(rows["surface"])),
        "request_id": _ids("q", rows["request"]),
        "position": rows["position"].astype(np.int32),
        **{name: rows["flags"][:, place] for place, name in enumerate(FLAG_NAMES)},
        "clicked": nothing,
        "long_viewed": nothing,
        "policy": pa.array(("served", "random")).take(pa.array(random.astype(np.int64))),
        "propensity": pa.array(rows["propensity"], from_pandas=True),
        "variant": pa.array(variant, mask=variant == ""),
        "source_order": events_before + rows["event"],
    }
    return pa.table(columns)


def _truth_table(rows: Columns, events_before: int) -> pa.Table:
    names = ("p_glance", "expected_watch_s", "affinity", "feedback_delay_ms")
    order = {"source_order": events_before + rows["event"]}
    return pa.table(order | {name: rows[name] for name in names})


def _ids(letter: str, number: Any) -> pa.Array:
    return pc.binary_join_element_wise(letter, pc.cast(pa.array(number), pa.string()), "")
