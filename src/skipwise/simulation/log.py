"""How a simulated world becomes a log on disk.

    WorldSettings  ->  simulate  ->  OUT: events, videos, viewers and truth (.parquet),
                                          source.json, world.json

- `events`, `videos` and `viewers` are the canonical tables of docs/design.md, as a real log gives
  them; `truth.parquet` (a row per event, same `source_order`) holds what no log tells.
- Rows are in the order of time, over all viewers. Views that would begin after the last day are
  not part of the log.
- The folder is written whole or not at all; one that is not a simulated world is never replaced.

Knows the rest of the folder; is read by the command line, tests and benchmarks.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skipwise.progress import SILENT, Progress
from skipwise.settings import settings_to_dict
from skipwise.simulation.clock import show_times
from skipwise.simulation.exposure import plan_exposures
from skipwise.simulation.population import draw_videos, draw_viewers
from skipwise.simulation.tables import (
    describe_source,
    event_table,
    truth_table,
    video_table,
    viewer_table,
)
from skipwise.simulation.watching import watch
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS, WorldSettings
from skipwise.storage import check_replaceable, replace_folder, write_json


def simulate(out: Path, settings: WorldSettings, progress: Progress = SILENT) -> None:
    """Simulate a world and write its log.

    Args:
        out: Folder to write; a simulated world already there is replaced.
        settings: The world.
        progress: Who is told how far it is.

    Raises:
        SettingError: `out` exists and is something else.
        StorageError: The disk is full or the folder cannot be written.
    """
    check_replaceable(out, "world.json", "a simulated world")
    tables = simulate_tables(settings, progress)
    with (
        replace_folder(out) as folder,
        progress.task("write", total=len(tables), unit="tables") as task,
    ):
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
            task.advance(note=name)
        write_json(folder / "source.json", dataclasses.asdict(describe_source()))
        write_json(folder / "world.json", settings_to_dict(settings))


def simulate_tables(settings: WorldSettings, progress: Progress = SILENT) -> dict[str, pa.Table]:
    """Simulate a world in memory.

    Returns:
        The tables `events`, `videos`, `viewers` and `truth`.
    """
    rng = np.random.default_rng(settings.seed)
    viewers = draw_viewers(settings, rng)
    videos = draw_videos(settings, rng)
    exposures = plan_exposures(settings, viewers, videos, rng)
    outcomes, truth = watch(settings, viewers, videos, exposures, rng, progress)
    shown_at_ms = show_times(exposures, outcomes.watch_ms, rng)
    end_ms = (FIRST_DAY + settings.days) * DAY_MS - UTC_OFFSET_MS
    rows = np.argsort(shown_at_ms, kind="stable")
    rows = rows[shown_at_ms[rows] < end_ms]
    return {
        "events": event_table(exposures, outcomes, videos, shown_at_ms, rows),
        "videos": video_table(videos),
        "viewers": viewer_table(viewers),
        "truth": truth_table(truth, rows),
    }
