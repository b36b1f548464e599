"""How a simulated world becomes a log on disk.

    WorldSettings  ->  simulate  ->  OUT: events, videos, viewers and truth (.parquet),
                                          source.json, world.json

- `events`, `videos` and `viewers` are the canonical tables of docs/design.md, as a real log gives
  them; `truth.parquet` (a row per event, same `source_order`) holds what no log tells.
- Rows are in the order of time, over all viewers of a block. Views that would begin after the last
  day are not part of the log.
- Viewers live and are written in blocks, so memory holds one block however large the world is: a
  world of one block (up to `BLOCK_VIEWS` views wanted) is in the order of time throughout.
- The folder is written whole or not at all; one that is not a simulated world is never replaced.

Knows the rest of the folder; is read by the command line, tests and benchmarks.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skipwise.progress import SILENT, Progress
from skipwise.settings import settings_to_dict
from skipwise.simulation.clock import show_times
from skipwise.simulation.exposure import plan_exposures
from skipwise.simulation.living_log import Lived, live
from skipwise.simulation.population import Videos, Viewers, draw_videos, draw_viewers
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

BLOCK_VIEWS = 1_000_000
"""Views wanted of the viewers of one block; a block takes about 1 GiB while it is made."""


_ROWS_TOGETHER = 262_144


def simulate(
    out: Path, settings: WorldSettings, progress: Progress = SILENT, *, truth: bool = True
) -> None:
    """Simulate a world and write its log.

    Args:
        out: Folder to write; a simulated world already there is replaced.
        settings: The world.
        progress: Who is told how far it is.
        truth: Whether `truth.parquet` is written, which is three times as large as the log.

    Raises:
        SettingError: `out` exists and is something else.
        StorageError: The disk is full or the folder cannot be written.
    """
    check_replaceable(out, "world.json", "a simulated world")
    world = _World(settings)
    with (
        replace_folder(out) as folder,
        contextlib.ExitStack() as stack,
        progress.task("write", total=settings.viewers, unit="viewers") as task,
    ):
        writers: dict[str, pq.ParquetWriter] = {}
        for block in world.blocks(progress):
            for name, table in block.items():
                if name == "truth" and not truth:
                    continue
                if name not in writers:
                    file = str(folder / f"{name}.parquet")
                    writer = pq.ParquetWriter(file, table.schema, compression="zstd")
                    writers[name] = stack.enter_context(writer)
                writers[name].write_table(table, row_group_size=_ROWS_TOGETHER)
            task.advance(block["viewers"].num_rows)
        pq.write_table(video_table(world.videos), folder / "videos.parquet", compression="zstd")
        stack.close()
        write_json(folder / "source.json", dataclasses.asdict(describe_source()))
        write_json(folder / "world.json", settings_to_dict(settings))


def simulate_tables(settings: WorldSettings, progress: Progress = SILENT) -> dict[str, pa.Table]:
    """Simulate a world in memory.

    Returns:
        The tables `events`, `videos`, `viewers` and `truth`.
    """
    world = _World(settings)
    blocks = list(world.blocks(progress))
    return {
        name: pa.concat_tables([block[name] for block in blocks])
        for name in ("events", "viewers", "truth")
    } | {"videos": video_table(world.videos)}


@dataclass(slots=True)
class _Numbers:
    """How many viewers, requests and events came in the blocks before."""

    viewers: int = 0
    requests: int = 0
    events: int = 0


class _World:
    """A catalogue, and its viewers block by block.

    The first block goes on with the generator that drew the catalogue; each later one has a
    generator of its own, so a block does not depend on how much the ones before it drew.
    """

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self._rng = np.random.default_rng(settings.seed)
        self._first_viewers = draw_viewers(self._of_block(0), self._rng)
        self.videos: Videos = draw_videos(settings, self._rng)

    def blocks(self, progress: Progress) -> Iterator[dict[str, pa.Table]]:
        """Simulate the blocks one after the other: `events`, `truth` and `viewers` of each."""
        before, intercept = _Numbers(), None
        for block in range(self._num_blocks):
            settings, rng, viewers = self._of_block(block), self._rng, self._first_viewers
            if block:
                rng = np.random.default_rng([self.settings.seed, block])
                viewers = draw_viewers(settings, rng)
            lived = self._lived(settings, viewers, rng, progress, intercept)
            exposures, outcomes, truth = lived.exposures, lived.outcomes, lived.truth
            shown_at_ms = lived.shown_at_ms
            if intercept is None and len(truth.parts):
                intercept = lived.intercept
            rows = np.argsort(shown_at_ms, kind="stable")
            rows = rows[shown_at_ms[rows] < _end_ms(settings)]
            yield {
                "events": event_table(
                    exposures,
                    outcomes,
                    self.videos,
                    shown_at_ms,
                    rows,
                    dataclasses.astuple(before),
                    settings.habits.surfaces,
                ),
                "truth": truth_table(truth, rows, before.events),
                "viewers": viewer_table(viewers, before.viewers),
            }
            before.viewers += settings.viewers
            before.requests += int(exposures.request.max(initial=-1)) + 1
            before.events += rows.size

    def _lived(
        self,
        settings: WorldSettings,
        viewers: Viewers,
        rng: np.random.Generator,
        progress: Progress,
        intercept: float | None,
    ) -> Lived:
        if settings.living:
            return live(settings, viewers, self.videos, rng, progress, intercept)
        exposures = plan_exposures(settings, viewers, self.videos, rng)
        outcomes, truth = watch(settings, viewers, self.videos, exposures, rng, progress, intercept)
        shown_at_ms = show_times(exposures, outcomes.watch_ms, rng)
        found = float(truth.parts[0, 0]) if len(truth.parts) else 0.0
        return Lived(exposures, outcomes, truth, shown_at_ms, found)

    @property
    def _block_viewers(self) -> int:
        wanted = self.settings.views_per_viewer_day * self.settings.days
        return max(1, int(BLOCK_VIEWS / wanted))

    @property
    def _num_blocks(self) -> int:
        return -(-self.settings.viewers // self._block_viewers)

    def _of_block(self, block: int) -> WorldSettings:
        left = self.settings.viewers - block * self._block_viewers
        return replace(self.settings, viewers=min(left, self._block_viewers))


def _end_ms(settings: WorldSettings) -> int:
    return (FIRST_DAY + settings.days) * DAY_MS - UTC_OFFSET_MS
