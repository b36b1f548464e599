"""Whoever is told nothing hears nothing, and costs nothing."""

import pytest

from skipwise.progress import SILENT, Progress, Task


def test_silence_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with SILENT.task("labels", total=3, unit="days") as task:
        for _ in range(5):
            task.advance(note="a note")
    with SILENT.task("no end", total=None, unit="rows") as task:
        task.advance(2.5)
    assert capfd.readouterr() == ("", "")


def test_silence_does_not_swallow_what_goes_wrong() -> None:
    with pytest.raises(KeyboardInterrupt), SILENT.task("labels", total=1, unit="days"):
        raise KeyboardInterrupt


def test_bars_may_lie_inside_each_other() -> None:
    progress: Progress = SILENT
    with progress.task("outer", total=1, unit="days") as outer:
        with progress.task("inner", total=1, unit="rows") as inner:
            inner.advance()
        task: Task = outer
        task.advance()
