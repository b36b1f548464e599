"""The trained network as machine code of this machine (AOTInductor), where it is asked for.

    RUN  ->  compile_forms (once per weights, torch and processor)  ->  cache folder
    cache folder, Recommender  ->  compiled_backend  ->  Backend

- Machine code is never read from a RUN, for a RUN may come from anywhere: it lies in this user's
  own cache ($XDG_CACHE_HOME, else ~/.cache), under a hash of what it was made from.
- It needs a C++ compiler where it is made; which package brings one is said where there is none.
- A backend is taken only when it has repeated the eager one (`models.prove`).

Reads `backends`, `onnx` (the example arguments) and `training.checkpoint`; is read by `models`.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from skipwise.errors import RunError
from skipwise.model.recommender import Recommender
from skipwise.model.request import Array
from skipwise.serving.backends import SHORTEST, Backend, Form, Runner, backend_of
from skipwise.serving.onnx import FORMS, WRITTEN_BY, example, exported
from skipwise.storage import replace_folder
from skipwise.training.checkpoint import MODEL_FILE, load_run, read_description


def compiled_backend(run: Path, model: Recommender) -> Backend:
    """Load a run's compiled forms, compiling them first where that has not been done.

    Raises:
        RunError: There is no C++ compiler, or it could not be compiled.
    """
    folder = _ensure_compiled(run)
    runners: dict[Form, Runner] = {}
    for form in FORMS:
        runners[form] = _runner(torch._inductor.aoti_load_package(str(folder / f"{form}.pt2")))
    return backend_of(model, "compiled", runners)


def compile_forms(run: Path, folder: Path) -> None:
    """Compile a run's forms into a folder.

    Raises:
        RunError: The run is damaged.
        StorageError: The folder cannot be written.
    """
    model = load_run(run).model
    with replace_folder(folder) as aside, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the compiler's own
        for form in FORMS:
            encoder = model.settings.encoder
            at_once = form != "encode" or encoder.follows
            longest = max(encoder.history_length if at_once else encoder.reach, SHORTEST + 1)
            arguments, shapes = example(form, model, longest)
            program = torch.export.export(exported(form, model), arguments, dynamic_shapes=shapes)
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(aside / f"{form}.pt2")
            )


def _ensure_compiled(run: Path) -> Path:
    folder = _folder(run)
    if all((folder / f"{form}.pt2").is_file() for form in FORMS):
        return folder
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise RunError(
            f"the backend compiled needs a C++ compiler, and there is no {compiler}; Debian's "
            "package is g++. Install it with apt-get install g++, or give --backend onnx."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "skipwise.serving.compiled", str(run), str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise RunError(f"{run} could not be compiled: {last}. Give --backend onnx, and tell us.")
    return folder


def _folder(run: Path) -> Path:
    """Return where a run's machine code lies, by what it was made from."""
    made_from = (
        read_description(run)["checksums"][MODEL_FILE],
        torch.__version__,
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        str(WRITTEN_BY),
        Path(__file__).read_text(encoding="utf-8"),
    )
    name = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "skipwise" / "compiled" / name


def _runner(program: Any) -> Runner:
    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        with torch.inference_mode():
            result = program(*(torch.from_numpy(array) for array in arrays))
        results = result if isinstance(result, tuple | list) else (result,)
        return tuple(tensor.numpy() for tensor in results)

    return run


if __name__ == "__main__":
    compile_forms(Path(sys.argv[1]), Path(sys.argv[2]))
