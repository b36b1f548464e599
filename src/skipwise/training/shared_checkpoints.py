"""Checkpoints that several processes write together, by torch.distributed.checkpoint.

    tensors, some sharded      ->  SharedCheckpoints.save  ->  state-N/*.safetensors, state-N.json
    state-N/, tensors to fill  ->  fill_from               ->  the same, whatever the number

- Each process writes its own rows of the sharded tables; nobody gathers a whole one.
- The files are safetensors, and where a row lies is read from them: another number of processes, or
  one alone, takes them up as well.
- The folder must be one that every machine sees.

Reads `unfinished`; is read by `fit`.
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from skipwise.errors import RunError, StorageError
from skipwise.storage import checksum
from skipwise.training.processes import Processes
from skipwise.training.unfinished import Checkpoints, described, number_of

ASKED_EVERY = 10
"""Steps between two questions to the first process whether a checkpoint is due."""


class SharedCheckpoints(Checkpoints):
    """Writes checkpoints of a run that several processes train."""

    def __init__(self, run: Path, *, keep: int, every_s: float, processes: Processes) -> None:
        super().__init__(run, keep=keep, every_s=every_s, clears=processes.first)
        self.processes = processes
        self._asked = 0
        self._group = dist.new_group(backend="gloo")
        """Of its own, so that a writer does not speak between two learners."""
        processes.wait()

    def due(self) -> bool:
        """Say whether the first process thinks that one is due."""
        self._asked += 1
        if self._asked % ASKED_EVERY:
            return False
        return self.processes.decided(by_first=super().due())

    def finish(self) -> None:
        """Wait until everything is on disk, everybody's.

        Raises:
            StorageError: Something could not be written.
        """
        super().finish()
        self._numbers = [number_of(file) for file in described(self.folder)]

    def _copied(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, ShardedTensor):
            return super()._copied(tensor)
        copies = [
            Shard(each.tensor.detach().clone(), each.metadata) for each in tensor.local_shards()
        ]
        return init_from_local_shards(copies, *tensor.size())

    def _write(self, tensors: Mapping[str, Tensor], position: Mapping[str, Any]) -> None:
        state = self.folder / self._next()
        aside = self.folder / f".{state.name}.part"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                save(
                    dict(tensors),
                    storage_writer=HuggingFaceStorageWriter(str(aside), save_distributed=True),
                    process_group=self._group,
                )
        except CheckpointException as problem:
            shutil.rmtree(aside, ignore_errors=True)
            raise StorageError(
                f"the checkpoint {state} could not be written "
                f"({'; '.join(str(each[0]) for each in problem.failures.values())}); every process "
                "must be able to write there. Make room, or name a shared folder with --out."
            ) from None
        if self.processes.first:
            shutil.rmtree(state, ignore_errors=True)
            aside.rename(state)
            files = sorted(state.glob("*.safetensors"))
            sums = {f"{state.name}/{file.name}": checksum(file) for file in files}
            self._keep(state, position, sums)
        dist.barrier(self._group)


def fill_from(state: Path, tensors: Mapping[str, Tensor], *, alone: bool) -> None:
    """Read a shared checkpoint into tensors of the same names and sizes, in place.

    Args:
        state: The folder.
        tensors: What to fill; a sharded one gets its own rows.
        alone: Whether this is the only process.

    Raises:
        RunError: It has other names, sizes or types.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(
                dict(tensors),
                storage_reader=HuggingFaceStorageReader(str(state)),
                no_dist=alone,
            )
    except (CheckpointException, RuntimeError, ValueError, KeyError) as problem:
        said = (
            "; ".join(str(each[0]) for each in problem.failures.values())
            if isinstance(problem, CheckpointException)
            else str(problem)
        )
        raise RunError(
            f"{state} does not fit this training: {said.splitlines()[0]}; tables, vocabulary and "
            "types must be those it was written with. Give the same dataset and settings, or say "
            "--replace in place of --resume to train from the start."
        ) from None
