"""Starts training anew on a faster memory allocator, where the machine has one.

    argv, environment  ->  preloading  ->  the environment to start anew with, or None

- Training allocates and frees the same large tensors at every step; jemalloc keeps them
  (docs/engine.md). It must be there before Python starts, hence the new start.
- SKIPWISE_ALLOCATOR=system leaves everything as it is.

Is read by `main`; `learning` says which allocator it is.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TRAINING = ("train", "demo")
"""Commands that are worth a new start."""
CONF = "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always"
"""Freed memory is kept for the next step, in large pages."""
PLACES = (
    "/usr/lib/*/libjemalloc.so.2",
    "/usr/lib*/libjemalloc.so.2",
    "/usr/local/lib/libjemalloc.so.2",
)


def start_anew_with_jemalloc() -> None:
    """Replace this process by the same command with jemalloc, if it is not so yet."""
    environment = preloading(sys.argv, os.environ, library())
    if environment is not None:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606 - the same command


def preloading(
    argv: Sequence[str], environment: Mapping[str, str], found: Path | None
) -> dict[str, str] | None:
    """Return the environment to start a command anew with.

    Args:
        argv: The command's words.
        environment: Its environment.
        found: The library, None where it is not there.

    Returns:
        None where nothing is to be gained: another command, no library, or it is loaded already
        and was told what to keep. Loaded by somebody else, it gives pages back at every step,
        and training pays for them anew.
    """
    wanted = len(argv) > 1 and argv[1] in TRAINING and "--help" not in argv
    before = environment.get("LD_PRELOAD", "")
    if not wanted or environment.get("SKIPWISE_ALLOCATOR") == "system":
        return None
    if "jemalloc" in before:
        return None if "MALLOC_CONF" in environment else {**environment, "MALLOC_CONF": CONF}
    if found is None:
        return None
    libraries = f"{found}:{before}" if before else str(found)
    return {"MALLOC_CONF": CONF, **environment, "LD_PRELOAD": libraries}


def library() -> Path | None:
    """Find jemalloc where Linux systems keep it."""
    if not sys.platform.startswith("linux"):
        return None
    return next((file for place in PLACES for file in sorted(Path("/").glob(place[1:]))), None)


def allocator(environment: Mapping[str, str]) -> str:
    """Say which allocator a process with this environment has, and what would be faster."""
    if "jemalloc" in environment.get("LD_PRELOAD", ""):
        return "memory by jemalloc"
    if environment.get("SKIPWISE_ALLOCATOR") == "system":
        return "memory by the system's allocator, as SKIPWISE_ALLOCATOR says"
    return (
        "memory by the system's allocator: jemalloc is not preloaded, training is some 20 % slower "
        "than it could be; install it (Debian: libjemalloc2) and start with `skipwise train`"
    )
