"""The trained network in ONNX Runtime: the same forms, about half the time.

    RUN  ->  export_forms (once, in a process of its own)  ->  RUN/onnx
    RUN/onnx, Recommender  ->  onnx_backend  ->  Backend

- Exported once per run and kept in it, under the checksum of the weights; the export takes tens
  of seconds of one core, so it never runs inside a server, and yields to one. A server says when
  it begins and how long it took.
- Numbers of events and candidates stay free; everything else is as in `model.forms`.
- A backend is taken only when it has repeated the eager one (`models.prove`).

Reads `backends` and `training.checkpoint`; is read by `models`.
"""

import fcntl
import inspect
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from skipwise.errors import RunError
from skipwise.features.vocabulary import TOPICS_AT_MOST
from skipwise.model.forms import EncodeForm, FindForm, RankForm
from skipwise.model.recommender import Recommender
from skipwise.model.request import Array
from skipwise.model.short_rank import rank_form
from skipwise.model.video_vectors import vector_width
from skipwise.serving.backends import SHORTEST, Backend, Form, Runner, backend_of
from skipwise.storage import replace_folder, write_json
from skipwise.training.checkpoint import MODEL_FILE, load_run, read_description

log = logging.getLogger("skipwise.serving")

FOLDER, ABOUT = "onnx", "onnx.json"
_LOCK = ".onnx.lock"
_NICENESS = 10
"""Of the export, so that requests come first."""
FORMS: Mapping[Form, type[EncodeForm | RankForm | FindForm]] = {
    "encode": EncodeForm,
    "rank": RankForm,
    "find": FindForm,
}
WRITTEN_BY = 6
"""Grows when the forms change, so that a run exported before is exported anew."""
_SLOWER_FUSED = ["SkipLayerNormFusion"]
"""A sum and its norm in one are slower than one after the other: a ranking 3.4 ms, without 3.1."""
_EXAMPLE_EVENTS, _EXAMPLE_CANDIDATES, _EXAMPLE_BEFORE = 7, 11, 5
_EVENTS_AT_MOST, _CANDIDATES_AT_MOST = 20_000, 100_000


def onnx_backend(run: Path, model: Recommender) -> Backend:
    """Open a run's exported forms, exporting them first where they are not there yet.

    Raises:
        RunError: onnxruntime is not installed, or the export failed.
    """
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError:
        raise RunError(
            "the backend onnx needs onnxruntime, which is not installed; it comes with an extra. "
            "In a clone: pip install '.[serve]'; or give --backend eager."
        ) from None
    ensure_exported(run)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    runners: dict[Form, Runner] = {}
    for form in FORMS:
        session = onnxruntime.InferenceSession(
            str(run / FOLDER / f"{form}.onnx"),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_SLOWER_FUSED,
        )
        runners[form] = _runner(session, _parameters(form))
    return backend_of(model, "onnx", runners)


def export_forms(run: Path) -> None:
    """Write RUN/onnx.

    Raises:
        RunError: The run is damaged.
        StorageError: The folder cannot be written.
    """
    loaded = load_run(run)
    with replace_folder(run / FOLDER) as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own
        for form in FORMS:
            arguments, shapes = example(form, loaded.model)
            program = torch.onnx.export(
                exported(form, loaded.model),
                arguments,
                dynamo=True,
                dynamic_shapes=shapes,
                verbose=False,
            )
            assert program is not None  # noqa: S101 - dynamo always returns one
            program.save(str(folder / f"{form}.onnx"))
        write_json(folder / ABOUT, about(loaded.description))


def exported(form: Form, model: Recommender) -> nn.Module:
    """Return what is exported of a form: with the arguments of `FORMS`, and the same numbers."""
    return (rank_form(model) if form == "rank" else FORMS[form](model)).eval()


def ensure_exported(run: Path) -> None:
    """Export a run where its forms are not there yet; one process does, others wait for it.

    Raises:
        RunError: The export failed.
    """
    if is_exported(run):
        return
    try:
        lock = (run / _LOCK).open("w")
    except OSError as problem:
        raise RunError(
            f"{run} cannot be written ({problem.strerror}) and has no export to ONNX yet, which "
            "lies in it; it must be writable once. Mend its permissions, or give --backend eager."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_exported(run):
            log.info("%s", announced(run))
            began_s = perf_counter()
            export_apart(run)
            log.info("exported %s in %.0f s", run, perf_counter() - began_s)


def announced(run: Path) -> str:
    """Say that a run is exported, and how long one waits."""
    return f"exporting {run} to ONNX, once: a minute or two of one core"


def is_exported(run: Path) -> bool:
    """Say whether a run's forms are there, of these weights and in this form."""
    told = run / FOLDER / ABOUT
    exported = all((run / FOLDER / f"{form}.onnx").is_file() for form in FORMS)
    return exported and told.is_file() and bool(_read(told) == about(read_description(run)))


def export_apart(run: Path) -> None:
    """Export a run in a process of its own.

    Raises:
        RunError: It failed.
    """
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "skipwise.serving.onnx", str(run)], capture_output=True, check=False
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise RunError(
            f"{run} could not be exported to ONNX: {last}. Give --backend eager, and tell us."
        )


def about(description: Mapping[str, Any]) -> dict[str, Any]:
    """Say of what, and in which form, an export is."""
    return {"checksum": description["checksums"][MODEL_FILE], "written_by": WRITTEN_BY}


def _read(told: Path) -> Any:
    return json.loads(told.read_text(encoding="utf-8"))


def _runner(session: Any, names: list[str]) -> Runner:
    """Feed by name what the export kept: it drops inputs that a model does not read."""
    kept = {each.name for each in session.get_inputs()}

    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        fed = {name: array for name, array in zip(names, arrays, strict=True) if name in kept}
        return tuple(session.run(None, fed))

    return run


def _parameters(form: Form) -> list[str]:
    names = inspect.signature(FORMS[form].forward).parameters
    return [name.lower() for name in names if name != "self"]  # as the exporter writes them


def example(
    form: Form, model: Recommender, events_at_most: int = _EVENTS_AT_MOST
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """Return arguments of the right types, and which of their sizes are free.

    No tensor stands for two arguments: the exporter would take them for one.
    """
    events = Dim("events", min=SHORTEST, max=events_at_most)
    others = Dim("others", min=SHORTEST, max=events_at_most)
    candidates = Dim("candidates", min=SHORTEST, max=_CANDIDATES_AT_MOST)
    width, sizes = model.settings.width, model.sizes
    past, asked, earlier = _EXAMPLE_EVENTS, _EXAMPLE_CANDIDATES, _EXAMPLE_BEFORE
    states, time_s = torch.randn(past, width), torch.linspace(1e9, 1e9 + 999, past).double()
    whole = [torch.ones(past, dtype=torch.int64) for _ in range(3)]
    valid = torch.ones(past, dtype=torch.bool)
    if form == "encode":
        encoder = model.settings.encoder
        given = torch.randn(earlier, encoder.blocks if encoder.follows else 0, width)
        before = (
            torch.ones(earlier, dtype=torch.int64),
            torch.linspace(1e9 - 999, 1e9 - 1, earlier).double(),
            torch.ones(earlier, dtype=torch.bool),
        )
        context = torch.zeros(past, 5, dtype=torch.int64)
        vectors = torch.randn(past, vector_width(model))
        arrived = (vectors, *whole[:2], context, time_s, valid)
        return (given, *before, *arrived), ({0: others},) * 4 + ({0: events},) * 6
    request = (
        torch.zeros(5, dtype=torch.int64),
        torch.zeros(len(sizes.viewer_categories), dtype=torch.int64),
        torch.zeros(sizes.viewer_numbers),
    )
    if form == "find":
        co_watched = torch.randn(past, model.settings.retrieval.co_watched)
        read = (states, co_watched, whole[0], time_s, valid)
        return (*read, *request), ({0: events},) * 5 + (None,) * 3
    topics = torch.ones(past, TOPICS_AT_MOST, dtype=torch.int64)
    arguments = (
        *(states, *whole[:2], topics, whole[2], time_s, valid),
        request[0],
        torch.tensor(1e9 + 1000, dtype=torch.float64),
        *request[1:],
        torch.randn(asked, vector_width(model)),
        torch.arange(asked),
        torch.ones(asked, dtype=torch.int64),
        torch.ones(asked, TOPICS_AT_MOST, dtype=torch.int64),
        torch.ones(asked, len(sizes.counters)),
        *(torch.full((asked,), 20.0) for _ in range(3)),
    )
    return arguments, ({0: events},) * 7 + (None,) * 4 + ({0: candidates},) * 8


if __name__ == "__main__":
    os.nice(_NICENESS)
    export_forms(Path(sys.argv[1]))
