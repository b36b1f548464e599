"""ONNX Runtime repeats the eager network, and is refused where it does not."""

import dataclasses
import re
import shutil
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.model.curve import NUM_HAZARDS, WatchCurve, share_lost
from skipwise.model.request import Array
from skipwise.serving.engine import Engine
from skipwise.serving.models import Served, prove
from skipwise.serving.onnx import FORMS, about, announced, ensure_exported
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.state.store import StateSettings
from skipwise.serving.wire import Event, EventBatch, RankRequest
from skipwise.storage import write_json
from skipwise.training.checkpoint import TrainedRun, read_description
from tests.serving.running import Command

AT_MS = 1_790_000_000_000


def test_it_predicts_what_the_eager_network_does_whatever_the_sizes(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path, videos: list[str]
) -> None:
    store = SqliteStore(str(tmp_path / "state.db"))
    prepare_state(small_run.path, small_dataset.path, store, StateSettings())
    onnx = open_engine(small_run.path, small_dataset.path, store, ServeSettings(backend="onnx"))
    eager = open_engine(small_run.path, small_dataset.path, store)
    assert onnx.models.every()[0].backend.name == "onnx"
    for past, asked in ((0, 1), (1, 2), (30, 60)):
        viewer = f"viewer of {past}"
        views = [
            Event(
                event_id=str(place),
                viewer_id=viewer,
                video_id=videos[place],
                shown_at_ms=AT_MS + place * 90_000,
                watch_ms=place * 900,
                duration_ms=30_000,
            )
            for place in range(past)
        ]
        onnx.keep([EventBatch(events=tuple(views))])
        request = RankRequest(
            viewer_id=viewer,
            candidates=tuple(videos[:asked]),
            requested_at_ms=AT_MS + 10**8,
            explain=True,
        )
        for one, other in zip(
            onnx.rank(request, "r").items, eager.rank(request, "r").items, strict=True
        ):
            assert one.video_id == other.video_id
            for name, chance in (other.predictions or {}).items():
                assert (one.predictions or {})[name] == pytest.approx(chance, rel=1e-5, abs=1e-5)
    _refuses_what_differs(onnx.models.every()[0], eager.models.every()[0], onnx)
    store.close()


def test_a_curve_that_hardly_falls_is_as_exact_as_the_eager_one(tmp_path: Path) -> None:
    """Where a viewer leaves a bin one time in a thousand, 1 - exp(-x) must keep its digits."""
    outputs = torch.linspace(-9, -4, 40 * NUM_HAZARDS).view(40, NUM_HAZARDS)
    asked = outputs, torch.linspace(5, 300, 40)
    eager, exact = _Curve()(*asked), _Curve()(*(each.double() for each in asked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(_Curve().eval(), asked, dynamo=True, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "curve.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "curve.onnx"))
    names = (each.name for each in session.get_inputs())
    fed = {name: tensor.numpy() for name, tensor in zip(names, asked, strict=True)}
    for run, ours, true in zip(session.run(None, fed), eager, exact, strict=True):
        np.testing.assert_allclose(ours, true, rtol=3e-6)
        np.testing.assert_allclose(run, true, rtol=3e-6)


class _Curve(nn.Module):
    """What a ranking asks of a curve: expected seconds, and the share lost in a second."""

    def forward(self, outputs_MK: Tensor, duration_s_M: Tensor) -> tuple[Tensor, Tensor]:
        curve = WatchCurve.from_outputs(outputs_MK, duration_s_M)
        lost = share_lost(-curve.log_survival(torch.ones_like(duration_s_M)))
        return curve.expected_watch_s(400.0), lost


def _refuses_what_differs(served: Served, reference: Served, engine: Engine) -> None:
    right = served.backend.runners["rank"]

    def off(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        logits, watch = right(arrays)
        return logits + np.float32(1e-3), watch

    runners = {**served.backend.runners, "rank": off}
    backend = dataclasses.replace(served.backend, runners=runners)
    wrong = dataclasses.replace(served, backend=backend)
    with pytest.raises(RunError, match=r"on onnx differs by 0\.001"):
        prove(wrong, engine.world, reference=reference)


def test_a_server_says_that_a_swap_exports_first_and_how_long_it_took(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    """A real export: somebody who swaps waits for it, and sees why."""
    ensure_exported(small_run.path)
    first, later = tmp_path / "first", tmp_path / "later"
    shutil.copytree(small_run.path, first)
    shutil.copytree(small_run.path, later, ignore=shutil.ignore_patterns("onnx"))
    state = f"sqlite:{tmp_path / 'state.db'}"
    server = Command(first, small_dataset.path, state, backend="onnx").start()
    server.client.timeout = 300
    for _ in range(2):
        server.client.ask("POST", "/v1/models", {"action": "swap", "run": "later"})
        server.client.ask("POST", "/v1/models", {"action": "roll_back"})
    printed = server.stop()
    assert printed.count(announced(later)) == 1, printed
    assert re.search(rf"exported {re.escape(str(later))} in \d+ s", printed)
    assert announced(first) not in printed


def test_of_several_workers_one_exports_and_the_others_wait(
    small_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, exports = tmp_path / "run", []
    shutil.copytree(small_run.path, run, ignore=shutil.ignore_patterns("onnx"))

    def export(path: Path) -> None:
        exports.append(path)
        time.sleep(0.3)
        (path / "onnx").mkdir()
        for form in FORMS:
            (path / "onnx" / f"{form}.onnx").touch()
        write_json(path / "onnx" / "onnx.json", about(read_description(path)))

    monkeypatch.setattr("skipwise.serving.onnx.export_apart", export)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(ensure_exported, [run] * 4))
    assert exports == [run]
    shutil.rmtree(run / "onnx")
    ensure_exported(run)
    assert exports == [run, run]
