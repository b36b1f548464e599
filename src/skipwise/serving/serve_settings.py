"""What a server may be told: `skipwise serve ... key=value`, or the settings of a simulated one.

Reads the settings of the parts; is read by `engine`, by what opens one, and by the loop.
"""

from dataclasses import dataclass, field
from typing import Literal

from skipwise.serving.negatives import NegativeSettings
from skipwise.serving.pipeline import SlateSettings
from skipwise.serving.state.store import StateSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """Everything a server may be told."""

    state: StateSettings = field(default_factory=StateSettings)
    slate: SlateSettings = field(default_factory=SlateSettings)
    negatives: NegativeSettings = field(default_factory=NegativeSettings)
    backend: Literal["eager", "onnx", "compiled"] = "eager"
    """Who runs the network; the command asks for onnx unless told otherwise. `compiled` is
    AOTInductor's, which wants a C++ compiler."""
    seed: int = 0
    """Of what is explored."""
    clock: Literal["now", "log"] = "now"
    """What time it is: the system's, or, for a log of the past, going on from where it ended."""
    encoded_viewers: int = 1000
    """Encoded pasts a process holds, so that after a viewer's next event that event alone is
    encoded: 104 kB each at a history of 200 and a width of 32, at most 129 kB once it is full."""
    variants: tuple[str, ...] = ("current", "canary")
    """What an event may name as its variant."""
