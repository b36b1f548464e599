"""`make bench-quality` trains a cell once, goes on where it was, and measures changed code anew."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import quality, quality_measures, quality_runs
from benchmarks.quality_processes import Processes
from benchmarks.quality_runs import Bench, Cell

from skipwise.features.dataset import Dataset
from tests.training.trained import SHORT

pytestmark = pytest.mark.usefixtures("one_thread")

OURS = Cell("ours")
LATE = Cell("a day late", mode="progressive", delay_s=86_400.0)
VIDEO_RATE = Cell("video_rate", baseline="video_rate")
CELLS = (OURS, LATE, VIDEO_RATE)


@pytest.fixture
def bench(small_dataset: Dataset, tmp_path: Path) -> Bench:
    last = small_dataset.days[1]
    return Bench(
        dataset=small_dataset,
        last_training_day=last - 2,
        days=(last - 1, last),
        size="tiny",
        budget=("threads=1", "refit=false", *SHORT),
        out=tmp_path,
        draws=20,
    )


def test_settings_of_every_cell_of_every_table_can_be_read(bench: Bench) -> None:
    names = ["planted", "p1", *quality.TABLES, *(f"planted:{name}" for name in quality.TABLES)]
    for name in names:
        cells = quality.cells_of(name)
        assert len({cell.name for cell in cells}) == len(cells) > 0
        for cell in cells:
            assert dataclasses.replace(bench, budget=()).settings(cell, 2).seed == 2


def test_skips_in_input_and_objective_are_crossed() -> None:
    """Four cells, each with the score of skips and without: eight."""
    crossed = {
        (set(quality.NO_SKIP_INPUT) <= set(cell.words), "loss.glance=0" in cell.words)
        for cell in quality.TABLES["skips"]
    }
    assert len(quality.TABLES["skips"]) == len(crossed) == 4
    assert len(quality_measures.SCORES) == 2


def test_on_the_simulated_world_the_modes_are_those_of_the_table() -> None:
    asked, planted = quality.TABLES["modes"], quality.cells_of("planted:modes")
    assert [(cell.mode, cell.delay_s) for cell in planted] == [
        (cell.mode, cell.delay_s) for cell in asked
    ]
    assert {cell.mode for cell in quality.cells_of("planted:parts")} == {"progressive"}


def test_what_is_kept_is_found_by_all_it_depends_on(
    bench: Bench, edited_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, figures = bench.run_path(OURS, 0), bench.figures_file(OURS, 0)
    forgetful = Cell("forgetful", ("model.encoder.history_length=25",))
    others = [
        (bench, forgetful, 0),
        (bench, OURS, 1),
        (dataclasses.replace(bench, code="changed"), OURS, 0),
        (dataclasses.replace(bench, dataset=edited_dataset), OURS, 0),
        (dataclasses.replace(bench, last_training_day=bench.last_training_day - 1), OURS, 0),
    ]
    for other, cell, seed in others:
        assert other.run_path(cell, seed) != run
        assert other.figures_file(cell, seed) != figures
    for cell in (LATE, VIDEO_RATE):
        assert bench.run_path(cell, 0) == run, "measured on the same run"
        assert bench.figures_file(cell, 0) != figures
    at_once = dataclasses.replace(LATE, delay_s=0.0)
    assert bench.figures_file(at_once, 0) != bench.figures_file(LATE, 0)
    assert bench.figures_file(VIDEO_RATE, 1) == bench.figures_file(VIDEO_RATE, 0)
    measures = tmp_path / "measures.py"
    measures.write_text("# changed")
    monkeypatch.setattr(quality_measures, "__file__", str(measures))
    assert bench.run_path(OURS, 0) == run
    assert bench.figures_file(OURS, 0) != figures


def test_a_cell_is_trained_once_and_measured_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {cell.name: bench.figures(cell, 0) for cell in CELLS}
    assert len(list((bench.out / "runs").iterdir())) == 1
    assert found["ours"]["glance/auc"].shape == (1 + 20,)
    assert found["ours"]["glance/auc"][0] != found["a day late"]["glance/auc"][0]
    assert "curve/S(7)/predicted" in found["ours"]
    assert not any(name.startswith("curve/") for name in found["video_rate"])

    def again(*_: Any, **__: Any) -> None:
        pytest.fail("done again")

    for name in ("train", "score_run", "figures_of"):
        monkeypatch.setattr(quality_runs, name, again)
    for cell in CELLS:
        kept = bench.figures(cell, 0)
        assert list(kept) == list(found[cell.name])
        for name, values in kept.items():
            np.testing.assert_array_equal(values, found[cell.name][name])
    monkeypatch.setattr(Processes, "_do", lambda _self, _what, _step, jobs: done.extend(jobs))
    done: list[Any] = []
    processes = Processes(lambda _: bench)
    processes.train({"table": CELLS}, [0, 1])
    assert [job[2] for job in done] == [1], "the second seed's one run"
    done.clear()
    processes.measure("table", CELLS, [0, 1])
    assert [(cell.name, seed) for _, cell, seed in done] == [("ours", 1), ("a day late", 1)]
    processes.close()
