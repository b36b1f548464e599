"""One step of learning, and what is carried from step to step.

    Plan, stretches  ->  Learner.read  ->  Batch  ->  Learner.step  ->  loss

- A loss that is not a number stops training with the step, the term and the rows.
- What is validated and kept is a running mean of the weights.

Reads `model`, `features`; is read by `fit`.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset
from skipwise.features.stretches import Plan, batches_by_size, read_stretches
from skipwise.features.vocabulary import Catalogue
from skipwise.model.batch import Batch, to_batch
from skipwise.model.losses import decorrelation_loss, objective_losses, pairwise_loss
from skipwise.model.recommender import Recommender, Scores
from skipwise.training.finding import FindingTeacher
from skipwise.training.machine import products_on
from skipwise.training.processes import ALONE, Processes
from skipwise.training.settings import TrainSettings
from skipwise.training.sharding import ShardedTables
from skipwise.training.tables import SparseTables
from skipwise.training.weights import FlatWeights


class Learner:
    """A model, its optimizer and the running mean of its weights."""

    def __init__(
        self,
        model: Recommender,
        catalogue: Catalogue,
        dataset: Dataset,
        settings: TrainSettings,
        finding: FindingTeacher | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.catalogue, self.dataset, self.settings = (
            model,
            catalogue,
            dataset,
            settings,
        )
        self.finding, self.processes = finding, processes
        self.precision = "fp32"
        """Of the network's passes, fp32 or bf16; who trains sets it."""
        self.device = next(model.parameters()).device
        chosen = settings.optimizer
        large = large_tables(model, chosen.sparse_from_rows)
        self.tables: SparseTables | ShardedTables
        if processes.number > 1 and large:
            self.tables = ShardedTables(model, large, chosen.table_learning_rate, processes)
            large = []
        else:
            self.tables = SparseTables(large, chosen.table_learning_rate)
        shared = {id(table.weight): table.weight for table in large}
        self.mean = copy.deepcopy(model, dict(shared))
        self.weights = FlatWeights(_groups(model, shared))
        self.mean_weights = FlatWeights(_groups(self.mean, shared), learns=False)
        for weight in self.mean.parameters():
            weight.requires_grad_(id(weight) in shared)
        self.optimizer = _optimizer(self.weights, settings)
        self._impressions_each = 0.0
        """Impressions of a batch in the mean, all processes together."""
        self._losses: dict[str, float] = {}
        self._weights: dict[str, int] = {}
        model.train()

    def batches(self, plan: Plan, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        """Group a pass's stretches, viewers shuffled, then shuffle the groups."""
        order = generator.permutation(len(plan))
        groups = list(batches_by_size(plan, order, self.settings.tokens_per_batch))
        generator.shuffle(groups)
        self._impressions_each = len(plan.candidate_rows) / max(len(groups), 1)
        return groups

    def read(self, plan: Plan, chosen: NDArray[np.int64]) -> Batch:
        """Read this process's part of one batch."""
        part = chosen[self.processes.part(len(chosen))]
        return to_batch(read_stretches(self.dataset, plan, part), self.catalogue, self.device)

    def step(self, batch: Batch, step: int) -> tuple[float, int]:
        """Learn from one batch.

        Returns:
            Its loss, and how many impressions it had.

        Raises:
            RunError: The loss is not a finite number.
        """
        chosen = self.settings.optimizer
        share = min(1.0, (step + 1) / (chosen.warmup_steps + 1))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * share
        self.tables.set_pace(share)
        if self.processes.number > 1:  # chance by step and process, whatever came before
            torch.manual_seed(self._chance(step))
        losses, loss = self._weighted(batch, self.precision)
        terms = torch.stack(list(losses.values()))
        total = loss.item()
        if not math.isfinite(total):
            raise RunError(_not_a_number(losses, batch, step))
        self.weights.zero_gradients()
        (loss * self._weight_of(batch)).backward()  # type: ignore[no-untyped-call]
        for gradient in self.weights.gradients():
            self.processes.average_(gradient)
        scale = self.weights.clip_gradients(chosen.gradient_norm_at_most, self.tables.square_norm())
        self.optimizer.step()
        self.tables.step(scale)
        self._average(step)
        self._count(dict(zip(losses, terms.tolist(), strict=True)), len(batch.row))
        return total, len(batch.row)

    def try_batch(self, batch: Batch, precision: str) -> None:
        """Go forward and backward, and forget the gradients."""
        self._weighted(batch, precision)[1].backward()  # type: ignore[no-untyped-call]
        self.tables.square_norm()  # takes the gradients off the tables
        self.weights.zero_gradients()

    def take_mean_losses(self) -> dict[str, float]:
        """Return each term's mean since the last call, weighted by impressions."""
        means = {name: total / self._weights[name] for name, total in self._losses.items()}
        self._losses, self._weights = {}, {}
        return means

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Recommender]:
        """Give the model with averaged weights, for scoring."""
        yield self.mean

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights; of sharded tables the rows here."""
        dense = {name: value.detach().clone() for name, value in self.mean.state_dict().items()}
        return dense | self.tables.weights()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that changes from step to step, by name; not copies."""
        state: dict[str, Tensor] = {
            f"weights.{place}": each for place, each in enumerate(self.weights.vectors)
        }
        state |= {f"mean.{place}": each for place, each in enumerate(self.mean_weights.vectors)}
        for place, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{place}.{name}": value for name, value in moments.items()}
        state = {name: value.detach() for name, value in state.items()}
        state |= {f"table.{name}": value for name, value in self.tables.tensors().items()}
        return state | ({"random": torch.get_rng_state()} if self.processes.number == 1 else {})

    def counts(self) -> dict[str, tuple[float, int]]:
        """Return each loss term's sum over impressions since the last means, and their number."""
        return {name: (total, self._weights[name]) for name, total in self._losses.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], counts: Mapping[str, tuple[float, int]]) -> None:
        """Take up what `tensors` and `counts` gave, which `check_tensors` has judged."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            what, _, rest = name.partition(".")
            if what in {"weights", "mean"}:
                flat = self.weights if what == "weights" else self.mean_weights
                flat.vectors[int(rest)].copy_(value)
            elif what == "table":
                self.tables.restore(rest, value)
            elif what == "optimizer":
                place, _, moment = rest.partition(".")
                moments.setdefault(int(place), {})[moment] = value
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})
        if "random" in state:
            torch.set_rng_state(state["random"])
        self.restore_counts(counts)

    def restore_counts(self, counts: Mapping[str, tuple[float, int]]) -> None:
        """Take up what `counts` gave."""
        self._losses = {name: total for name, (total, _) in counts.items()}
        self._weights = {name: number for name, (_, number) in counts.items()}

    def begin_moments(self) -> None:
        """Give the optimizer the moments it has before its first step, to be overwritten."""
        for vector in self.weights.vectors:
            self.optimizer.state[vector] = {
                "step": torch.zeros((), device=vector.device),
                "exp_avg": torch.zeros_like(vector),
                "exp_avg_sq": torch.zeros_like(vector),
            }

    def _chance(self, step: int) -> int:
        """Return the seed of a step on this process."""
        words = [self.settings.seed, step, self.processes.rank]
        return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])

    def _with_hidden_events(self, batch: Batch) -> Batch:
        """Hide a share of the past events from every reader of them."""
        share = self.settings.history_dropout
        if share == 0:
            return batch
        kept = torch.rand(batch.token_valid.shape, device=batch.token_valid.device) >= share
        return dataclasses.replace(batch, token_valid=batch.token_valid & kept)

    def _weighted(self, batch: Batch, precision: str) -> tuple[dict[str, Tensor], Tensor]:
        """Return each term of the loss, and their weighted sum."""
        with products_on(self.device, precision):
            scores = self.model(self._with_hidden_events(batch))
            losses = self._losses_of(scores, batch)
        terms = torch.stack([term.float() for term in losses.values()])
        weights = [getattr(self.settings.loss, name) for name in losses]
        return losses, terms @ terms.new_tensor(weights)

    def _losses_of(self, scores: Scores, batch: Batch) -> dict[str, Tensor]:
        settings = self.settings.loss
        losses = objective_losses(
            scores.predictions, batch.targets, watch_at_most_s=self.model.cuts.watch_at_most_s
        )
        if settings.pairwise > 0 and {"glance", "effective"} <= set(self.model.objectives):
            group = batch.stretch * 100_000 + batch.day
            losses["pairwise"] = pairwise_loss(
                scores.predictions.logits["glance"], batch.targets, group
            )
        if settings.decorrelation > 0:
            losses["decorrelation"] = decorrelation_loss(scores.liking_MD, scores.disliking_MD)
        if self.finding is not None:
            losses["retrieval"] = self.finding.loss(self.model, scores, batch)
        return losses

    def _weight_of(self, batch: Batch) -> float:
        """Say how much a batch counts: its impressions over those of a mean batch, or 1.

        Where it has fewer stretches than there are processes, what is given out twice counts twice.
        """
        if self.settings.batch_weight == "equal":
            return 1.0
        return len(batch.row) * self.processes.number / self._impressions_each

    def _average(self, step: int) -> None:
        """Move the mean; its memory grows to the set one, so that early weights are forgotten."""
        memory = min(self.settings.optimizer.average, (1 + step) / (10 + step))
        self.mean_weights.move_towards(self.weights, 1 - memory)

    def _count(self, losses: dict[str, float], rows: int) -> None:
        for name, value in losses.items():
            self._losses[name] = self._losses.get(name, 0.0) + value * rows
            self._weights[name] = self._weights.get(name, 0) + rows


def large_tables(model: Recommender, from_rows: int) -> list[nn.Embedding]:
    """Return the tables of ids that have at least so many rows."""
    ids = {id(table) for table in model.inputs.identity_tables()}
    tables = [each for each in model.modules() if isinstance(each, nn.Embedding)]
    return [each for each in tables if id(each.weight) in ids and each.num_embeddings >= from_rows]


def _groups(model: Recommender, large: Mapping[int, Tensor]) -> list[list[nn.Parameter]]:
    """Part a model's weights, large tables apart: the rest, then ids if there are any left."""
    known = {id(table) for table in model.inputs.identity_tables()}
    small = [each for each in model.parameters() if id(each) not in large]
    groups = [[each for each in small if (id(each) in known) is ids] for ids in (False, True)]
    return [group for group in groups if group]


def _optimizer(weights: FlatWeights, settings: TrainSettings) -> torch.optim.AdamW:
    chosen = settings.optimizer
    rates = (
        (chosen.learning_rate, chosen.weight_decay),
        (chosen.id_learning_rate, chosen.id_weight_decay),
    )
    groups = [
        {"params": [vector], "base": rate, "weight_decay": decay}
        for vector, (rate, decay) in zip(weights.vectors, rates, strict=False)
    ]
    return torch.optim.AdamW(groups, lr=chosen.learning_rate, fused=True)


def _not_a_number(losses: dict[str, Tensor], batch: Batch, step: int) -> str:
    bad = [name for name, value in losses.items() if not math.isfinite(value.item())]
    rows = f"{int(batch.row.min())} to {int(batch.row.max())}"
    return (
        f"the loss of step {step} is not a finite number (terms: {', '.join(bad) or 'their sum'}; "
        f"event rows {rows}); it must be. Lower optimizer.learning_rate, or look at those rows "
        "with `skipwise inspect`."
    )
