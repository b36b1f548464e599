"""Tables too large for one process: each keeps some of the rows, by TorchRec.

    nn.Embedding tables with many rows, Processes  ->  ShardedTables  ->  row-wise Adagrad by FBGEMM

- A lookup goes to whoever has the row and comes back; so does its gradient. Every process must
  therefore look up as often as every other.
- The rule of learning is that of `tables`; gradients of these tables are not clipped, since they
  are used up on the way back.
- These rows are no parameters of the model: nobody but FBGEMM moves them.

Is read by `learner`; needs the extra `[distributed]`.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard

from skipwise.errors import SettingError
from skipwise.training.processes import Processes

_NAME = "ids"


class ShardedTable(nn.Module):
    """An embedding table of which this process keeps its own rows."""

    def __init__(self, table: nn.Embedding, learning_rate: float, processes: Processes) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.processes = processes
        self.rows = rows_of(processes, table.num_embeddings)
        self._unregistered = (_sharded(table, learning_rate, processes),)
        self.weight_here.copy_(table.weight.detach()[self.rows.start : self.rows.stop])

    def forward(self, index: Tensor) -> Tensor:
        """Look up rows wherever they are, (...) -> (..., D)."""
        from torchrec import KeyedJaggedTensor  # noqa: PLC0415 - an extra

        asked = index.flatten() if index.numel() else index.new_zeros(1)  # everybody must ask
        each = torch.ones(len(asked), dtype=torch.int64, device=index.device)
        found = self.shards(
            KeyedJaggedTensor.from_lengths_sync(keys=[_NAME], values=asked, lengths=each)
        )
        values: Tensor = found[_NAME].values()
        return values[: index.numel()].view(*index.shape, self.embedding_dim)

    @property
    def shards(self) -> Any:
        """TorchRec's module; no part of this one's parameters, which others move and copy."""
        return self._unregistered[0]

    @property
    def weight_here(self) -> Tensor:
        """(rows here, D): the rows this process keeps, not a copy."""
        whole: ShardedTensor = self.shards.state_dict()[f"embeddings.{_NAME}.weight"]
        return whole.local_shards()[0].tensor.detach()

    @property
    def state_here(self) -> Tensor:
        """(rows here,): their sums of squares, not a copy."""
        state = self.shards.fused_optimizer.state_dict()["state"]
        whole: ShardedTensor = state[f"embeddings.{_NAME}.weight"][f"{_NAME}.momentum1"]
        return whole.local_shards()[0].tensor.detach()

    def learn_at(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        optimizer = self.shards.fused_optimizer
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    def whole(self, here: Tensor) -> Tensor | None:
        """Gather everybody's rows on the first process; None on the others."""
        widest = -(-self.num_embeddings // self.processes.number)
        padded = here.new_zeros(widest, *here.shape[1:])
        padded[: len(here)] = here
        if self.processes.first:
            parts = [torch.empty_like(padded) for _ in range(self.processes.number)]
            dist.gather(padded, parts)
            return torch.cat(parts)[: self.num_embeddings]
        dist.gather(padded)
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> "ShardedTable":
        """Stay one: a running mean of weights has no table of its own."""
        return self


def rows_of(processes: Processes, num_rows: int) -> range:
    """Return which rows of a table a process keeps.

    >>> [rows_of(Processes(rank=rank, number=2), 5) for rank in (0, 1)]
    [range(0, 3), range(3, 5)]
    """
    widest = -(-num_rows // processes.number)
    first = min(processes.rank * widest, num_rows)
    return range(first, min(first + widest, num_rows))


def as_shard(here: Tensor, table: ShardedTable) -> ShardedTensor:
    """Wrap what this process keeps of a tensor with a table's rows, for a checkpoint of all."""
    offsets = [table.rows.start] + [0] * (here.dim() - 1)
    shard = Shard.from_tensor_and_offsets(here, offsets, table.processes.rank)
    return init_from_local_shards([shard], table.num_embeddings, *here.shape[1:])


class ShardedTables:
    """The large tables of a model, replaced in it by sharded ones."""

    def __init__(
        self,
        model: nn.Module,
        large: Sequence[nn.Embedding],
        learning_rate: float,
        processes: Processes,
    ) -> None:
        _check_installed()
        self.learning_rate = learning_rate
        self.tables: dict[str, ShardedTable] = {}
        """Name of the weight in the model -> its table, in the order of `large`."""
        for table in large:
            path = next(name for name, each in model.named_modules() if each is table)
            sharded = ShardedTable(table, learning_rate, processes)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, sharded)
            self.tables[f"{path}.weight"] = sharded

    def set_pace(self, share: float) -> None:
        """Set the next step's share of the learning rate; before its lookups."""
        for table in self.tables.values():
            table.learn_at(self.learning_rate * share)

    def square_norm(self) -> float:
        """Return 0: FBGEMM has used the gradients already."""
        return 0.0

    def step(self, scale: float) -> None:
        """Do nothing: the rows were moved on the way back."""

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that changes from step to step, by name; not copies."""
        found: dict[str, Tensor] = {}
        for place, table in enumerate(self.tables.values()):
            found[f"{place}.weight"] = as_shard(table.weight_here, table)
            found[f"{place}.state"] = as_shard(table.state_here, table)
        return found

    @torch.no_grad()
    def restore(self, name: str, value: Tensor) -> None:
        """Take this process's rows of a whole tensor that one process wrote."""
        place, _, what = name.partition(".")
        table = list(self.tables.values())[int(place)]
        here = table.weight_here if what == "weight" else table.state_here
        here.copy_(value[table.rows.start : table.rows.stop])

    def weights(self) -> dict[str, Tensor]:
        """Copy the weights, by their name in the model: the rows here."""
        return {name: table.weight_here.clone() for name, table in self.tables.items()}

    def here(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut a model's weights down to what this process keeps of them."""
        kept = dict(weights)
        for name, table in self.tables.items():
            if name in kept:
                kept[name] = weights[name][table.rows.start : table.rows.stop].clone()
        return kept

    def as_shards(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Wrap the rows here among a model's weights, for a checkpoint of all; not copies."""
        return {
            name: as_shard(value, self.tables[name]) if name in self.tables else value
            for name, value in weights.items()
        }

    def gathered(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make whole tables of the rows here: on the first process, the others get none."""
        whole = {
            name: self.tables[name].whole(value) if name in self.tables else value
            for name, value in weights.items()
        }
        return {name: value for name, value in whole.items() if value is not None}


def _check_installed() -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchrec  # noqa: F401, PLC0415 - an extra
    except (ImportError, OSError) as problem:
        raise SettingError(
            f"a table of ids with at least optimizer.sparse_from_rows rows is trained by several "
            f"processes, and TorchRec is not installed ({problem}); it shards such tables. "
            "Install the extra [distributed] with `make distributed`, or train in one process."
        ) from None


def _sharded(table: nn.Embedding, learning_rate: float, processes: Processes) -> Any:
    """Make TorchRec's module: one table, by rows, with the optimizer in its backward pass."""
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # once per process: noise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchrec import EmbeddingCollection, EmbeddingConfig  # noqa: PLC0415 - an extra
        from torchrec.distributed.embedding import EmbeddingCollectionSharder  # noqa: PLC0415
        from torchrec.distributed.sharding_plan import (  # noqa: PLC0415
            construct_module_sharding_plan,
            row_wise,
        )
        from torchrec.distributed.types import ShardingEnv  # noqa: PLC0415
        from torchrec.optim import RowWiseAdagrad  # noqa: PLC0415
        from torchrec.optim.apply_optimizer_in_backward import (  # noqa: PLC0415
            apply_optimizer_in_backward,
        )

        device = table.weight.device
        config = EmbeddingConfig(
            name=_NAME,
            embedding_dim=table.embedding_dim,
            num_embeddings=table.num_embeddings,
            feature_names=[_NAME],
        )
        collection = EmbeddingCollection(device=torch.device("meta"), tables=[config])
        apply_optimizer_in_backward(
            RowWiseAdagrad, collection.parameters(), {"lr": learning_rate, "eps": 1e-8}
        )
        sharder = EmbeddingCollectionSharder()
        plan = construct_module_sharding_plan(
            collection,
            {_NAME: row_wise()},
            sharder=sharder,
            local_size=processes.number,
            world_size=processes.number,
            device_type=device.type,
        )
        group = dist.group.WORLD
        return sharder.shard(collection, plan, ShardingEnv.from_process_group(group), device)
