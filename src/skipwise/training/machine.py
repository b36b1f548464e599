"""What training takes from the machine it runs on: a device, and Ctrl-C at a good moment.

    setting  ->  chosen_device  ->  where tensors live
    Ctrl-C   ->  interrupts_noted  ->  heeded between two steps, never inside one

Is read by `fit`.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import torch

from skipwise.errors import SettingError
from skipwise.settings import check_choice


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
