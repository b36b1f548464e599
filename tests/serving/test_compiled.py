"""The network as machine code: proven at the start, or refused with what is missing."""

import os
from pathlib import Path

import numpy as np
import pytest

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.serving import compiled
from skipwise.serving.onnx import WRITTEN_BY
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import StateSettings
from skipwise.serving.wire import Event, EventBatch, RankRequest
from skipwise.training.checkpoint import TrainedRun

AT_MS = 1_790_000_000_000
COMPILED = ServeSettings(backend="compiled")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_without_a_compiler_it_says_which_package_brings_one(
    small_run: TrainedRun,
    small_dataset: Dataset,
    sqlite_store: SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare_state(small_run.path, small_dataset.path, sqlite_store, StateSettings())
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RunError, match=r"no no-such-compiler; Debian's package is g\+\+"):
        open_engine(small_run.path, small_dataset.path, sqlite_store, COMPILED)


def test_machine_code_of_forms_that_have_changed_is_not_taken(
    small_run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compiled._folder(small_run.path)
    assert compiled._folder(small_run.path) == before
    monkeypatch.setattr("skipwise.serving.compiled.WRITTEN_BY", WRITTEN_BY + 1)
    assert compiled._folder(small_run.path) != before


def test_it_predicts_what_the_eager_network_does(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore, videos: list[str]
) -> None:
    if not os.environ.get("SKIPWISE_COMPILE"):
        pytest.skip("compiling takes two minutes: SKIPWISE_COMPILE=1 asks for it")
    prepare_state(small_run.path, small_dataset.path, sqlite_store, StateSettings())
    machine = open_engine(small_run.path, small_dataset.path, sqlite_store, COMPILED)
    eager = open_engine(small_run.path, small_dataset.path, sqlite_store)
    assert machine.models.every()[0].backend.name == "compiled"
    for past, asked in ((0, 1), (1, 2), (30, 60)):
        views = [
            Event(
                event_id=str(place),
                viewer_id=f"viewer of {past}",
                video_id=videos[place],
                shown_at_ms=AT_MS + place * 90_000,
                watch_ms=place * 900,
                duration_ms=30_000,
            )
            for place in range(past)
        ]
        machine.keep([EventBatch(events=tuple(views))])
        request = RankRequest(
            viewer_id=f"viewer of {past}",
            candidates=tuple(videos[:asked]),
            requested_at_ms=AT_MS + 10**8,
            explain=True,
        )
        one, other = (
            [list((item.predictions or {}).values()) for item in engine.rank(request, "r").items]
            for engine in (machine, eager)
        )
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
