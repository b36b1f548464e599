"""How the command line shows work, tables and plots in a terminal.

    skipwise.progress.Progress  <-  ConsoleProgress     bars with rate and time left, on stderr
    columns, rows               ->  draw_table          a table   } both are printed with
    labels, values              ->  draw_bars           bars      } open_console().print(...)

- Bars are drawn only on a terminal; in a pipe or a file there are none.
- Everything fits `WIDTH` columns, or the terminal where it is narrower; text is never read as
  markup; a terminal that knows only ASCII gets ASCII.

Knows `progress`; is read by the commands.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, TimeElapsedColumn
from rich.progress import Task as Bar
from rich.progress import TaskID as BarID
from rich.table import Column, Table
from rich.text import Text

from skipwise.progress import SILENT, Task

WIDTH = 100
"""Most columns that anything takes."""

NOTHING = "-"
"""What stands where a number is unknown."""

Cell = str | int | float | None
"""What a table holds: text as it is, numbers to be formatted, None where unknown."""


def open_console(*, stderr: bool = False) -> Console:
    """Return a console of at most `WIDTH` columns; of exactly that where there is no terminal."""
    terminal = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if terminal.is_terminal:
        terminal.width = min(WIDTH, terminal.width)
        return terminal
    return _Piped(stderr=stderr, highlight=False, markup=False, emoji=False, width=WIDTH)


class _Piped(Console):
    """Writes into a pipe or a file: no line ends in blanks."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as a console does, less the blanks that would fill the width."""
        with self.capture() as captured:
            super().print(*objects, **options)
        lines = captured.get().split("\n")
        self.file.write("\n".join(line.rstrip(" ") for line in lines))


class ConsoleProgress:
    """Draws a bar per task, as `skipwise.progress.Progress` asks.

    A finished bar stays, so that the terminal keeps a line per step with the time it took. A task
    opened inside another gets a bar below it, which goes when it closes.
    """

    def __init__(
        self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on a console (stderr unless told), with the times of a clock in seconds."""
        self._console = console or open_console(stderr=True)
        self._clock = clock
        self._bars: Progress | None = None

    @contextmanager
    def task(self, what: str, *, total: float | None, unit: str) -> Iterator[Task]:
        """Open a bar; it moves by `advance` and closes with the block, however that ends."""
        if not self._console.is_terminal:
            with SILENT.task(what, total=total, unit=unit) as silent:
                yield silent
            return
        outermost = self._bars is None
        bars = self._bars or Progress(
            *_columns(),
            console=self._console,
            get_time=self._clock,
            refresh_per_second=5,
            expand=True,  # so that the last column takes what is left, and no more
        )
        self._bars = bars
        bar = bars.add_task(what, total=total, unit=unit, note="")
        try:
            if outermost:
                bars.start()
            yield _DrawnTask(bars, bar)
        finally:
            bars.stop_task(bar)
            if outermost:
                bars.stop()
                self._bars = None
            else:
                bars.remove_task(bar)


def draw_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """Lay out a table; long texts wrap rather than widen it.

    A column of numbers stands right: integers as 12,345, other numbers with four digits, None and
    NaN as `NOTHING`. Format a number yourself to have it otherwise; texts such as ".757" still
    stand right where the column holds nothing but such texts and numbers.

    Args:
        title: Stands above.
        columns: Names, C of them.
        rows: C cells each.

    Raises:
        ValueError: A row has more or fewer cells.
    """
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row has more or fewer cells than the {len(columns)} columns")
    for place, name in enumerate(columns):
        is_number = bool(rows) and all(_reads_as_number(row[place]) for row in rows)
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_format(cell)) for cell in row))
    return table


def draw_bars(title: str, labels: Sequence[str], values: Sequence[float]) -> Table:
    """Lay out a horizontal bar plot, as of a histogram: label, bar, value.

    Args:
        title: Stands above.
        labels: One per bar.
        values: One per bar, >= 0; the largest fills the width, NaN is drawn empty.

    Raises:
        ValueError: A value is negative, or there are not as many labels as values.
    """
    if any(value < 0 for value in values):
        raise ValueError(f"bars of {min(values):g}; a bar has no length below 0")
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    table = Table(
        Column(justify="right", overflow="fold", max_width=WIDTH // 3),
        Column(ratio=1),
        Column(justify="right", no_wrap=True),
        title=Text(title, style="bold"),
        title_justify="left",
        box=None,
        show_header=False,
        pad_edge=False,
        expand=True,
    )
    for label, value in zip(labels, values, strict=True):
        share = value / largest if largest > 0 and math.isfinite(value) else 0.0
        table.add_row(Text(label), _BarOfBlocks(share), Text(_format(value)))
    return table


@dataclass(frozen=True, slots=True)
class _DrawnTask:
    """Moves one bar."""

    bars: Progress
    bar: BarID

    def advance(self, amount: float = 1, *, note: str = "") -> None:
        """Move the bar on; a note stays until the next one."""
        self.bars.advance(self.bar, amount)
        if note:
            self.bars.update(self.bar, note=note)


@dataclass(frozen=True, slots=True)
class _BarOfBlocks:
    """A bar that fills a share of the width it is given, to an eighth of a column."""

    share: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        eighths = round(self.share * options.max_width * 8)
        if options.ascii_only:
            yield Text("#" * round(eighths / 8))
        else:
            yield Text("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), style="cyan")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(4, options.max_width), options.max_width)


class _WhatColumn(ProgressColumn):
    def render(self, task: Bar) -> Text:
        """Say what is done."""
        return Text(task.description)


class _AmountColumn(ProgressColumn):
    def render(self, task: Bar) -> Text:
        """Say how much is done of how much: `3/8 days`."""
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total} {task.fields['unit']}", justify="right")


class _RateColumn(ProgressColumn):
    def render(self, task: Bar) -> Text:
        """Say how fast it goes: `1,250/s`; over the whole time once it is done."""
        seconds = task.finished_time if task.finished else None
        speed = task.completed / seconds if seconds else task.finished_speed or task.speed
        return Text(f"{_rate(speed)}/s" if speed else "", justify="right")


class _TimeLeftColumn(ProgressColumn):
    def render(self, task: Bar) -> Text:
        """Say how long it will still take: `0:01:10 left`; nothing where nobody knows."""
        if task.finished or task.time_remaining is None:
            return Text("")
        left = int(task.time_remaining)
        return Text(f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02} left")


class _NoteColumn(ProgressColumn):
    def render(self, task: Bar) -> Text:
        """Say what the task last noted."""
        return Text(task.fields["note"], style="dim")


def _columns() -> list[ProgressColumn]:
    whole = Column(no_wrap=True)
    return [
        _WhatColumn(table_column=Column(no_wrap=True, overflow="ellipsis", max_width=28)),
        BarColumn(bar_width=16),
        _AmountColumn(table_column=whole),
        _RateColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        _TimeLeftColumn(table_column=whole),
        _NoteColumn(table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    ]


def _format(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return NOTHING
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _reads_as_number(cell: Cell) -> bool:
    if not isinstance(cell, str):
        return True
    return cell in ("", NOTHING) or cell.lstrip("+-.")[:1].isdigit()
