"""Training starts anew with jemalloc where it is; nothing else does, and which it is is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipwise.cli.launch import CONF, allocator, library, preloading

FOUND = Path("/usr/lib/some/libjemalloc.so.2")


def test_training_is_started_anew_once() -> None:
    first = preloading(
        ["skipwise", "train", "DATASET"], {"HOME": "/h", "LD_PRELOAD": "x.so"}, FOUND
    )
    assert first == {"HOME": "/h", "LD_PRELOAD": f"{FOUND}:x.so", "MALLOC_CONF": CONF}
    assert preloading(["skipwise", "train", "DATASET"], first, FOUND) is None


def test_a_setting_of_the_user_is_kept() -> None:
    anew = preloading(["skipwise", "train"], {"MALLOC_CONF": "narenas:1"}, FOUND)
    assert anew is not None
    assert anew["MALLOC_CONF"] == "narenas:1"


@pytest.mark.parametrize("found", [FOUND, None])
def test_one_that_somebody_else_loaded_is_told_what_to_keep(found: Path | None) -> None:
    loaded = {"LD_PRELOAD": "/opt/libjemalloc.so.2"}
    anew = preloading(["skipwise", "train"], loaded, found)
    assert anew == {**loaded, "MALLOC_CONF": CONF}
    assert preloading(["skipwise", "train"], anew, found) is None
    told = {**loaded, "MALLOC_CONF": "narenas:1"}
    assert preloading(["skipwise", "train"], told, found) is None


@pytest.mark.parametrize(
    ("argv", "environment", "found"),
    [
        (["skipwise", "evaluate", "RUN"], {}, FOUND),
        (["skipwise"], {}, FOUND),
        (["skipwise", "train", "--help"], {}, FOUND),
        (["skipwise", "train"], {"SKIPWISE_ALLOCATOR": "system"}, FOUND),
        (["skipwise", "train"], {"SKIPWISE_ALLOCATOR": "system", "LD_PRELOAD": f"{FOUND}"}, FOUND),
        (["skipwise", "evaluate", "RUN"], {"LD_PRELOAD": str(FOUND)}, FOUND),
        (["skipwise", "train"], {}, None),
    ],
)
def test_otherwise_nothing_is_started_anew(
    argv: list[str], environment: dict[str, str], found: Path | None
) -> None:
    assert preloading(argv, environment, found) is None


def test_which_allocator_it_is_is_said() -> None:
    assert allocator({"LD_PRELOAD": str(FOUND)}) == "memory by jemalloc"
    assert "as SKIPWISE_ALLOCATOR says" in allocator({"SKIPWISE_ALLOCATOR": "system"})
    assert "libjemalloc2" in allocator({})


def test_a_real_process_has_it_loaded() -> None:
    if library() is None:
        pytest.skip("jemalloc is not installed (Debian: libjemalloc2)")
    code = (
        "import sys; sys.argv = ['skipwise', 'train']; "
        "from skipwise.cli.launch import start_anew_with_jemalloc; start_anew_with_jemalloc(); "
        "print('jemalloc' in open('/proc/self/maps').read())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
