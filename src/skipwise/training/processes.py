"""The processes that train one model together: who they are, and what they tell each other.

    environment of torchrun  ->  joined  ->  Processes: rank, number, device, reductions

- Without torchrun there is one process, and every exchange is what went in.
- All must run the same code on the same data with the same settings: said before the first step.

Reads `meeting`; is read by `fit`, `learner` and `sharding`.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

import skipwise
from skipwise.errors import RunError, SettingError
from skipwise.settings import check_setting
from skipwise.training.meeting import meet, reach

TIMEOUT_VARIABLE = "SKIPWISE_PROCESSES_TIMEOUT_S"
"""Seconds for which one process waits for the others."""

_SAID_BYTES = 40
"""Of a fact that differs, so many are told: a setting whole, a checksum enough to tell it apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """One process's place among those that train together."""

    rank: int = 0
    number: int = 1
    local_rank: int = 0
    """Its place on its own machine: which GPU it takes."""
    local_number: int = 1
    """How many there are on its own machine."""
    restarts: int = 0
    """How often the group has been started anew, as far as any of its processes knows."""

    @property
    def first(self) -> bool:
        """Whether this one writes what is written once."""
        return self.rank == 0

    def part(self, whole: int) -> range:
        """Return the places of a batch of so many that are this process's.

        Where there are fewer than processes, some are given the first again: as a mean over
        processes weighs both alike, nothing is lost.

        >>> [list(Processes(rank=rank, number=2).part(5)) for rank in (0, 1)]
        [[0, 2, 4], [1, 3]]
        >>> list(Processes(rank=1, number=2).part(1))
        [0]
        """
        return range(self.rank, whole, self.number) if self.rank < whole else range(min(whole, 1))

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.number > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def average_(self, values: Tensor) -> None:
        """Replace values by their mean over all processes."""
        if self.number > 1:
            dist.all_reduce(values)
            values /= self.number

    def decided(self, *, by_first: bool) -> bool:
        """Return what the first process says."""
        if self.number == 1:
            return by_first
        flag = torch.tensor([int(by_first)])
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.number > 1:
            dist.barrier()

    def check_alike(self, facts: Mapping[str, str]) -> None:
        """Refuse to begin where processes differ.

        Args:
            facts: What must be the same -> a text that says it whole; the names are the same
                everywhere.

        Raises:
            RunError: Which of it differs, and between whom.
        """
        if self.number == 1:
            return
        digests = [list(hashlib.sha256(text.encode()).digest()) for text in facts.values()]
        everybodys = self._everybodys(torch.tensor(digests, dtype=torch.int64))
        for place, (name, text) in enumerate(facts.items()):
            others = [
                rank
                for rank, each in enumerate(everybodys)
                if not torch.equal(each[place], everybodys[0][place])
            ]
            if others:
                said = self._said(text)
                theirs = ", ".join(f"{said[rank]} in process {rank}" for rank in others)
                raise RunError(
                    f"{name} is {said[0]} in process 0 of {self.number}, but {theirs}; all must "
                    "have the same. Start every machine from the same version, dataset and command."
                )

    def _everybodys(self, own: Tensor) -> list[Tensor]:
        """Return what each process gave, by rank; all of one size and type."""
        found = [torch.empty_like(own) for _ in range(self.number)]
        dist.all_gather(found, own)
        return found

    def _said(self, text: str) -> list[str]:
        """Return the first words of what each process says, by rank."""
        own = torch.frombuffer(
            bytearray(text.encode()[:_SAID_BYTES].ljust(_SAID_BYTES)), dtype=torch.uint8
        )
        return [
            bytes(each.tolist()).decode(errors="replace").strip() for each in self._everybodys(own)
        ]


ALONE = Processes()
"""No torchrun: one process."""


@contextlib.contextmanager
def joined(
    environment: Mapping[str, str] | None = None, device: str = "auto"
) -> Iterator[Processes]:
    """Join the processes that torchrun started, until the end of the block.

    Args:
        environment: Where torchrun said who this one is; None = this process's own.
        device: cpu, cuda, or auto: with CUDA they exchange by NCCL, else by gloo.

    Raises:
        SettingError: The time-out is no number of seconds.
        RunError: The others cannot be reached.
    """
    found = os.environ if environment is None else environment
    if "LOCAL_RANK" not in found:
        yield ALONE
        return
    processes = Processes(
        rank=int(found["RANK"]),
        number=int(found["WORLD_SIZE"]),
        local_rank=int(found["LOCAL_RANK"]),
        local_number=int(found.get("LOCAL_WORLD_SIZE", "1")),
    )
    # TorchRec and torch.distributed.checkpoint still speak in ShardedTensor among themselves
    warnings.filterwarnings("ignore", "Please use DTensor", FutureWarning)
    timeout_s = _timeout_s(found)
    on_gpu = device != "cpu" and torch.cuda.is_available()
    try:
        timeout = timedelta(seconds=timeout_s)
        if processes.rank > 0 or found.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            reach(found["MASTER_ADDR"], int(found["MASTER_PORT"]), timeout_s)
        store, rank, number = next(iter(rendezvous("env://", timeout=timeout)))
        start = meet(PrefixStore("skipwise", store), rank, number, timeout_s)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            # a restarted group must not find the addresses of the one that was killed
            store=PrefixStore(start.name, store),
            rank=rank,
            world_size=number,
            timeout=timeout,
        )
        # each machine counts its own restarts, and the store goes with the machine that keeps it
        restarts = torch.tensor(
            [max(start.before, int(found.get("TORCHELASTIC_RESTART_COUNT", "0")))]
        )
        dist.all_reduce(restarts, dist.ReduceOp.MAX)
        processes = dataclasses.replace(processes, restarts=int(restarts.item()))
    except (dist.DistError, RuntimeError, ValueError, KeyError, OSError) as problem:
        address = f"{found.get('MASTER_ADDR')}:{found.get('MASTER_PORT')}"
        raise RunError(
            f"process {processes.rank} of {processes.number} did not reach the others at {address} "
            f"within {timeout_s:.0f} s ({str(problem).splitlines()[0]}); all must be started and "
            "see that address. Check --master-addr, the firewall and --nnodes, or wait longer with "
            f"{TIMEOUT_VARIABLE}."
        ) from None
    try:
        yield processes
        dist.barrier()  # nobody leaves while another still waits for an answer
    except (dist.DistError, RuntimeError) as problem:
        if not _of_exchange(problem):
            raise
        raise RunError(
            f"process {processes.rank} of {processes.number} lost the others "
            f"({_first_sentence(problem)}); all must go on until the end. One has stopped, and "
            "says why itself, or its machine cannot be reached: mend that, and go on with the same "
            "command and --resume."
        ) from None
    finally:
        dist.destroy_process_group()


def _of_exchange(problem: Exception) -> bool:
    """Say whether the others could not be spoken to; gloo says it with a plain RuntimeError."""
    return isinstance(problem, dist.DistError) or "gloo" in str(problem)


def _first_sentence(problem: Exception) -> str:
    """Leave out where in gloo's sources it stands, and what it advises."""
    line = str(problem).splitlines()[0]
    return re.sub(r"^\[[^]]*\.(cc|h):\d+\] ", "", line).split(". ")[0]


def code_digest() -> str:
    """Return a checksum over the package's own sources."""
    whole = hashlib.sha256()
    folder = Path(skipwise.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        whole.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return whole.hexdigest()


def _timeout_s(environment: Mapping[str, str]) -> float:
    written = environment.get(TIMEOUT_VARIABLE, "600")
    try:
        timeout_s = float(written)
    except ValueError:
        raise SettingError(
            f"{TIMEOUT_VARIABLE} = {written!r}, must be a number of seconds. Set it to 600."
        ) from None
    check_setting(TIMEOUT_VARIABLE, timeout_s, above=0, at_most=86_400)
    return timeout_s
