"""Which encoder reads a viewer's past, how large it is and how far it reaches.

    key=value  ->  EncoderSettings  ->  reach, queries, which past events are read

Is read by `encoder`, `reader`, `encoders` and whoever needs a reach before there is a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from skipwise.errors import SettingError
from skipwise.settings import check_choice, check_setting

Past = Literal["all", "positives"]
"""Which past events are read: all exposures, or those effective, long or liked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What must be known of an encoder before it is built."""

    past: Past = "positives"
    """Which past it reads in the form it was published in."""
    hops: Literal["none", "blocks", "endless"] = "none"
    """How a state depends on the events before it: not, through each block, or from the first."""
    queries: int = 1
    """How often the candidate asks at most."""
    follows: bool = False
    """Whether events can be encoded after others that were encoded before."""


KINDS: Mapping[str, Kind] = {
    "feedback": Kind(past="all", hops="blocks", queries=2, follows=True),
    "none": Kind(),
    "din": Kind(),
    "sasrec": Kind(hops="blocks"),
    "gru4rec": Kind(hops="endless"),
    "sine": Kind(),
    "dfar": Kind(past="all", hops="blocks", queries=2),
}
"""The encoders of `encoders.choice`: the feedback-aware one of this file, and baselines."""


WHOLE_HISTORY = 1_000_000_000
"""A reach beyond any history."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """Which encoder, its size and its reach."""

    kind: str = "feedback"
    """One of KINDS."""
    past: Literal["own", "all", "positives"] = "own"
    """Which past events are read; `own` is what the kind was published with. Among the last
    `history_length` events either way."""
    history_length: int = 200
    """W: how many visible events a candidate, and an event, reads back."""
    blocks: int = 1
    """Causal self-attention blocks."""
    heads: int = 2
    dropout: float = 0.1
    pair_biases: bool = True
    """Whether attention knows the feedback pair of the two events."""
    two_queries: bool = True
    """Whether the candidate asks twice, as if watched (q+) and as if skipped (q-), or once."""
    encode: bool = True
    """Whether past events are encoded by the blocks before they are read."""

    def __post_init__(self) -> None:
        check_choice("encoder.kind", self.kind, KINDS)
        check_setting("encoder.history_length", self.history_length, at_least=1, at_most=10_000)
        check_setting("encoder.blocks", self.blocks, at_least=1, at_most=12)
        check_setting("encoder.heads", self.heads, at_least=1, at_most=64)
        check_setting("encoder.dropout", self.dropout, at_least=0, below=1)

    @property
    def reach(self) -> int:
        """How many events back from its prefix a candidate depends on: W + blocks (W - 1)."""
        hops = KINDS[self.kind].hops
        if hops == "endless":
            return WHOLE_HISTORY
        encoded = hops == "blocks" and self.encode
        return self.history_length + (self.blocks if encoded else 0) * (self.history_length - 1)

    @property
    def follows(self) -> bool:
        """Whether what is encoded can be kept, and later events encoded after it."""
        return KINDS[self.kind].follows and self.encode

    @property
    def queries(self) -> int:
        """How often a candidate asks: twice, as if watched and as if skipped, or once."""
        return KINDS[self.kind].queries if self.two_queries else 1

    @property
    def reads_positives_only(self) -> bool:
        """Whether events that were neither effective nor long nor liked are hidden."""
        return (KINDS[self.kind].past if self.past == "own" else self.past) == "positives"


def check_heads(width: int, settings: EncoderSettings) -> None:
    """Refuse a width that the heads do not divide.

    Raises:
        SettingError: `width` is not a multiple of `heads`.
    """
    if width % settings.heads:
        raise SettingError(
            f"width = {width} is not a multiple of encoder.heads = {settings.heads}; each head "
            "takes an equal share of the width. Change one of them."
        )
