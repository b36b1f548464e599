"""How attention over a long stretch costs no more than its window: queries in blocks.

    values of T events  ->  Band.ask   ->  blocks of Q events, (B N, Q, ...)
                        ->  Band.read  ->  what each block may read, (B N, Q + back, ...)
    blocks              ->  Band.whole ->  (B, T, ...)

- A block of Q events reads itself and the `back` events before it, so pairs grow with T, not T x T.
- A short stretch is one block that reads itself: nothing is copied.
- Before the first event stand made-up ones; what is said of them is the caller's `fill`.
- The first P events may be there to be read only: they do not ask.

Is read by `encoder`. No I/O.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skipwise.model.gradients import with_before, written_out

BLOCKS_BACK = 3
"""A block is about such a part of the window: the more, the fewer pairs, the more copies."""
BLOCK_AT_LEAST = 16
"""Events of a block."""


@dataclass(frozen=True, slots=True)
class Band:
    """How T events are cut into blocks, P before them that are read and do not ask."""

    length: int
    """T"""
    blocks: int
    """N"""
    block: int
    """Q"""
    blocks_back: int
    """Blocks before a block that it reads."""
    before: int = 0
    """P"""

    @classmethod
    def of(cls, length: int, window: int, before: int = 0) -> "Band":
        """Cut T events, each of which reads itself and the `window` - 1 before it.

        Args:
            length: T, at least 1.
            window: W.
            before: P, at most W - 1.
        """
        block = max(BLOCK_AT_LEAST, -(-(window - 1) // BLOCKS_BACK))
        if before + length < window + 2 * block:
            return cls.after(length, before)
        return cls(
            length=length,
            blocks=-(-length // block),
            block=block,
            blocks_back=-(-(window - 1) // block),
            before=before,
        )

    @classmethod
    def after(cls, length: int, before: int) -> "Band":
        """Let T events read themselves and the P before them, in one block."""
        return cls(length=length, blocks=1, block=length, blocks_back=0, before=before)

    @property
    def back(self) -> int:
        """Events before a block that it reads."""
        return self.before if self.blocks == 1 else self.blocks_back * self.block

    @property
    def steps_back(self) -> Tensor:
        """Return how many events before each event of a block each one it reads lies, (Q, K)."""
        return torch.arange(self.block)[:, None] - torch.arange(-self.back, self.block)[None, :]

    def asking(self, values: Tensor) -> Tensor:
        """Take the T that ask out of all events, (B, P + T, ...) -> (B, T, ...)."""
        return values[:, self.before :] if self.before else values

    def ask(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Lay values of events out in blocks, (B, T, ...) -> (B N, Q, ...)."""
        if self.blocks == 1:
            return values
        return self._padded(values, 0, fill).reshape(-1, self.block, *values.shape[2:])

    def read(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Lay out what each block reads, (B, P + T, ...) -> (B N, back + Q, ...)."""
        if self.blocks == 1:
            return values
        padded = self._padded(values, self.back - self.before, fill)
        blocks = padded.view(len(values), -1, self.block, *values.shape[2:])
        if written_out(blocks):
            return with_before(blocks, self.blocks).flatten(0, 1)
        shifted = [blocks[:, start : start + self.blocks] for start in range(self.blocks_back + 1)]
        return torch.cat(shifted, 2).flatten(0, 1)

    def whole(self, blocks: Tensor) -> Tensor:
        """Put blocks of events together again, (B N, Q, ...) -> (B, T, ...)."""
        if self.blocks == 1:
            return blocks
        whole = blocks.reshape(-1, self.blocks * self.block, *blocks.shape[2:])
        return whole[:, : self.length]

    def _padded(self, values: Tensor, front: int, fill: float) -> Tensor:
        around = (front, self.blocks * self.block - self.length)
        return functional.pad(values, (*[0, 0] * (values.dim() - 2), *around), value=fill)
