"""What training takes from the machine it runs on: a device, and Ctrl-C at a good moment.

    setting  ->  chosen_device  ->  where tensors live
    Ctrl-C   ->  interrupts_noted  ->  heeded between two steps, never inside one
    device, precision  ->  products_on  ->  products taken so until the end of a block

Is read by `fit` and `learner`.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from skipwise.errors import SettingError
from skipwise.model.products import products_in
from skipwise.settings import check_choice

COMPILED, COMPILED_AT_MOST = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 512
"""Products kept compiled. 250 batches of a log of long and short stretches have 863, of which many
are rare (docs/engine.md)."""


def chosen_device(name: str, local_rank: int = 0) -> torch.device:
    """Turn the setting into a device.

    Args:
        name: auto, cpu or cuda.
        local_rank: Which of the machine's GPUs.

    Raises:
        SettingError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    check_choice("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError(
            "device = cuda, but no GPU was found; it must be one of this machine's. Use device=cpu."
        )
    return torch.device(name, local_rank) if name == "cuda" else torch.device(name)


def products_on(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Take products in a precision: on a CPU by the network itself, elsewhere by autocast.

    In bf16 oneDNN compiles a product for each shape, and asks before the first how many it may
    keep: `COMPILED_AT_MOST`, unless the user has said it. It keeps 1,024 by itself.

    Args:
        device: Where the network is.
        precision: fp32 or bf16.
    """
    narrow = precision == "bf16"
    if device.type != "cpu":
        return torch.autocast(device.type, torch.bfloat16, enabled=narrow)
    if narrow:
        os.environ.setdefault(COMPILED, str(COMPILED_AT_MOST))
    return products_in(torch.bfloat16 if narrow else None)


@contextlib.contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising it, so that no step is broken off half-way."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield lambda: bool(noted)
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
