"""What the terminal shows, drawn on a console that writes into a string."""

import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

from skipwise.cli.console import Cell, ConsoleProgress, draw_bars, draw_table, open_console
from skipwise.progress import Progress
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings


def test_a_bar_shows_amount_unit_rate_time_and_note() -> None:
    """The clock is read by hand: 40 rows in 4 s are 10 a second, 60 more take 6 s."""
    console, now = _terminal(), [0.0]
    progress: Progress = ConsoleProgress(console, clock=lambda: now[0])
    with progress.task("labels", total=100, unit="rows") as task:
        for _ in range(5):
            task.advance(8)
            now[0] += 1.0
        task.advance(0, note="[day] 3 of 7")
    shown = _written(console)
    assert "labels" in shown
    assert "40/100 rows" in shown
    assert "[day] 3 of 7" in shown
    assert "0:00:05" in shown
    with progress.task("again", total=100, unit="rows") as task:
        for _ in range(5):
            task.advance(10)
            now[0] += 1.0
        task.advance(10)
    assert "60/100 rows" in _written(console)
    assert "10/s" in _written(console)
    assert "0:00:04 left" in _written(console)


def test_a_finished_bar_keeps_its_rate_over_the_whole_time() -> None:
    console, now = _terminal(), [0.0]
    with ConsoleProgress(console, clock=lambda: now[0]).task("days", total=8, unit="days") as task:
        now[0] = 4.0
        task.advance(8)
    assert "2/s" in _written(console)
    assert "left" not in _written(console).split("\x1b[2K")[-1]


def test_a_bar_without_a_total_shows_no_time_left() -> None:
    console, now = _terminal(), itertools.count()
    progress = ConsoleProgress(console, clock=lambda: float(next(now)))
    with progress.task("reading", total=None, unit="rows") as task:
        for _ in range(5):
            task.advance(1000)
    assert "5,000 rows" in _written(console)
    assert "left" not in _written(console)


def test_a_task_within_a_task_gets_a_bar_of_its_own() -> None:
    console = _terminal()
    progress = ConsoleProgress(console)
    with progress.task("outer", total=2, unit="passes") as outer:
        for _ in range(2):
            with progress.task("inner", total=3, unit="batches") as inner:
                inner.advance(3)
            outer.advance()
    assert "2/2 passes" in _written(console).split("\x1b[2K")[-1]
    assert "inner" not in _written(console).split("\x1b[2K")[-1]


def test_a_long_note_takes_no_room_from_the_rest() -> None:
    console = _terminal()
    with ConsoleProgress(console).task("training the model", total=3, unit="passes") as task:
        task.advance(3, note="glance AUC " + ", ".join(f".75{digit}" for digit in range(10)))
    last = _written(console).split("\x1b[2K")[-1].splitlines()[0]
    assert "training the model" in last
    assert "3/3 passes" in last
    assert "glance AUC" in last
    assert len(last) <= 100


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    with ConsoleProgress(console).task("labels", total=2, unit="days") as task:
        task.advance(2, note="done")
    assert _written(console) == ""


def test_a_failure_closes_the_bar_and_passes_on() -> None:
    console = _terminal()
    progress = ConsoleProgress(console)
    with pytest.raises(KeyboardInterrupt), progress.task("labels", total=2, unit="days"):
        raise KeyboardInterrupt
    with progress.task("next", total=1, unit="days") as task:
        task.advance()
    last = _written(console).split("next")[-1]
    assert "1/1 days" in last
    assert _written(console).count("\x1b[?25l") == _written(console).count("\x1b[?25h")


def test_the_library_draws_its_bars_with_it(tmp_path: Path) -> None:
    console = _terminal()
    simulate(tmp_path / "world", WorldSettings(viewers=20, days=1), ConsoleProgress(console))
    assert "viewers watch" in _written(console)
    assert "20/20 viewers" in _written(console)


def test_a_table_fits_a_hundred_columns_and_loses_no_word() -> None:
    console = _terminal()
    long = " ".join(f"word{number}" for number in range(60))
    console.print(draw_table("Refused rows", ["reason", "rows", "example"], [[long, 12345, long]]))
    lines = _written(console).splitlines()
    assert max(map(len, lines)) <= 100
    assert "12,345" in _written(console)
    assert all(f"word{number}" in _written(console) for number in range(60))


def test_numbers_stand_right_texts_left_and_unknowns_are_a_dash() -> None:
    console = _terminal()
    rows: list[list[Cell]] = [
        ["glance", 0.757, None],
        ["long", float("nan"), 7],
        ["[like]", ".5", 123456],
    ]
    console.print(draw_table("Objectives", ["objective", "auc", "rows"], rows))
    lines = _written(console).splitlines()
    glance, long, like = (
        next(line for line in lines if word in line) for word in ("glance", "long", "[like]")
    )
    assert glance.split() == ["glance", "0.757", "-"]
    assert long.split() == ["long", "-", "7"]
    assert like.split() == ["[like]", ".5", "123,456"]
    assert len(glance.rstrip()) == len(long.rstrip()) == len(like.rstrip())  # right
    assert glance.index("0.757") + 5 == long.index("-") + 1 == like.index(".5") + 2
    assert glance.index("glance") == long.index("long") == like.index("[like]")  # left


def test_a_row_of_the_wrong_length_and_a_negative_bar_are_bugs() -> None:
    with pytest.raises(ValueError, match="more or fewer cells than the 2"):
        draw_table("Short", ["a", "b"], [[1]])
    with pytest.raises(ValueError, match="no length below 0"):
        draw_bars("Negative", ["a"], [-1])


def test_bars_are_as_long_as_their_values() -> None:
    console = _terminal()
    console.print(draw_bars("Watch time", ["0-3 s", "3-18 s", "18 s on"], [400, 100, 0]))
    first, second, third = _written(console).splitlines()[1:4]
    assert first.count("█") > 60
    assert second.count("█") == pytest.approx(first.count("█") / 4, abs=1)
    assert third.count("█") == 0
    assert first.rstrip().endswith("400")
    assert max(map(len, _written(console).splitlines())) <= 100


def test_bars_of_nothing_and_of_unknowns_are_empty() -> None:
    console = _terminal()
    console.print(draw_bars("Nothing", ["a", "b"], [0, float("nan")]))
    assert "█" not in _written(console)
    assert _written(console).splitlines()[2].rstrip().endswith("-")
    console.print(draw_bars("Empty", [], []))


def test_bars_are_ascii_where_the_terminal_knows_no_more() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=60, force_terminal=True)
    console.print(draw_bars("Watch time", ["0-3 s"], [4]))
    console.file.flush()
    assert b"####" in raw.getvalue()


def test_in_a_pipe_no_line_ends_in_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    open_console().print(draw_table("title", ("what", "value"), [("a", 1), ("b", "long text")]))
    open_console(stderr=True).print("said  ", style="red")
    shown, said = capsys.readouterr()
    assert "long text" in shown
    assert said == "said\n"
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_a_console_in_a_pipe_is_a_hundred_columns_wide(capsys: pytest.CaptureFixture[str]) -> None:
    console = open_console()
    assert console.width == 100
    console.print("[bold] stays as written :smile:")
    assert capsys.readouterr().out == "[bold] stays as written :smile:\n"


def _terminal() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)


def _written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
