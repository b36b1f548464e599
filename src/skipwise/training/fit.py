"""The training run: choose when to stop on held-out last days, then train on the whole window.

    Dataset, TrainSettings  ->  train  ->  RUN folder

- Two phases: `search` leaves the last days out and stops when they are predicted no better; `refit`
  starts anew on all days for the best number of passes.
- Everything random comes from the seed, the phase and the pass, so training that was broken off
  goes on as if it had not been.

Reads `model`, `features`; is read by the command line.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset, iso_day
from skipwise.features.stretches import Plan, View, plan_stretches
from skipwise.features.vocabulary import Catalogue, Vocabulary, bind, learn_vocabulary
from skipwise.labels.grid import NUM_BINS, grid_bin
from skipwise.model.predict import predict_rows
from skipwise.progress import SILENT, Progress
from skipwise.settings import settings_to_dict
from skipwise.storage import replace_file
from skipwise.training.checkpoint import (
    PROGRESS_FILE,
    build_model,
    dataset_facts,
    save_run,
)
from skipwise.training.co_watching import co_watched_vectors
from skipwise.training.finding import FindingTeacher
from skipwise.training.learner import Learner
from skipwise.training.loader import ReadAhead
from skipwise.training.machine import chosen_device, interrupts_noted
from skipwise.training.settings import TrainSettings
from skipwise.training.unfinished import FOLDER, Checkpoints, load_unfinished
from skipwise.training.views import draw_views
from skipwise.training.window import TrainingWindow, learnable_objectives, training_window

Report = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class _Position:
    """Where training stands, besides the weights."""

    phase: str = "search"
    passes: int = 0
    """Passes finished in this phase."""
    batch: int = 0
    """Batches finished in this pass."""
    step: int = 0
    best_pass: int = 0
    best_loss: float = math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    dataset: Dataset,
    out: Path,
    settings: TrainSettings,
    *,
    last_day: int | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
    report: Report | None = None,
) -> None:
    """Train a recommender and write it to a RUN folder.

    Args:
        dataset: Prepared events.
        out: The RUN folder; an old run there is replaced only when the new one is finished.
        settings: Everything that can be chosen.
        last_day: Last day to learn from (inclusive); None = the dataset's last.
        resume: Go on from where an earlier call in `out` was broken off.
        progress: Who is told how far it is.
        report: Is given one dict per finished pass (what `progress.jsonl` holds).

    Raises:
        DatasetError: The window is outside the data or too small.
        RunError: Nothing to resume, or it had another dataset or setting; or the loss is no number.
        StorageError: The disk is full.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    window = training_window(dataset, last_day, settings.validation_days)
    objectives, masked = learnable_objectives(dataset, window.training(with_validation=False))
    run = _Run(dataset, out, settings, window, objectives, progress, report)
    identity = {
        "fingerprint": dataset.fingerprint,
        "--until": iso_day(window.last_day),
        "settings": json.loads(json.dumps(settings_to_dict(settings))),
    }
    if resume:
        run.restore(identity)
    else:
        run.start(identity)
    started = time.monotonic()
    if run.position.phase == "search":
        run.search()
        if settings.refit:
            run.begin("refit")
    if run.position.phase == "refit":
        run.refit()
    run.checkpoints.finish()
    save_run(
        out,
        weights=run.final_weights(),
        vocabulary=run.vocabulary,
        settings=settings,
        facts=dataset_facts(dataset),
        more={
            "objectives": list(objectives),
            "masked_objectives": masked,
            "window": {
                "first_day": iso_day(window.first_day),
                "last_day": iso_day(window.last_day),
                "validation_from": iso_day(window.validation_from),
                "refit": settings.refit,
            },
            "label_shares": run.label_shares,
            "best_pass": run.position.best_pass,
            "validation_loss": run.position.best_loss,
            "seconds": time.monotonic() - started,
        },
    )
    shutil.rmtree(out / FOLDER, ignore_errors=True)


class _Run:
    """One training run: its phases, and how it is broken off and taken up again."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        settings: TrainSettings,
        window: TrainingWindow,
        objectives: tuple[str, ...],
        progress: Progress,
        report: Report | None,
    ) -> None:
        self.dataset, self.out, self.settings = dataset, out, settings
        self.window, self.objectives = window, objectives
        self.progress, self.report = progress, report
        self.identity: dict[str, Any] = {}
        self.position = _Position()
        self.best: dict[str, torch.Tensor] = {}
        self.learner: Learner
        self.checkpoints: Checkpoints
        self.waited_s = 0.0
        self.label_shares: dict[str, float] = {}
        self.vocabulary: Vocabulary

    def start(self, identity: dict[str, Any]) -> None:
        """Begin from nothing."""
        self.identity = identity
        shutil.rmtree(self.out / FOLDER, ignore_errors=True)
        self.checkpoints = self._checkpoints()
        self.begin("search")
        self.save(wait=False)

    def _checkpoints(self) -> Checkpoints:
        chosen = self.settings
        return Checkpoints(
            self.out, keep=chosen.checkpoints_kept, every_s=chosen.checkpoint_every_s
        )

    def begin(self, phase: str) -> None:
        """Set up a phase: vocabulary, normalisers and fresh weights from its own rows."""
        self.position = dataclasses.replace(self.position, phase=phase, passes=0, batch=0, step=0)
        with_validation = phase == "refit"
        known = np.flatnonzero(self.window.known(with_validation=with_validation))
        self.vocabulary = learn_vocabulary(self.dataset, known, min_views=self.settings.min_views)
        torch.manual_seed(self.settings.seed)
        model = build_model(
            dataset_facts(self.dataset), self.vocabulary, self.objectives, self.settings
        )
        self.rows = self.window.training(with_validation=with_validation)
        counter_rows = self.dataset.events["counter_row"].take(np.flatnonzero(self.rows))
        sample = counter_rows[:: max(1, len(counter_rows) // 500_000)]
        model.inputs.counters.fit(torch.from_numpy(self.dataset.counters_day.take(sample)))
        self.label_shares, leaving = self.starting_point()
        model.predictor.start_from(self.label_shares, leaving)
        if model.predictor.watch is not None:
            model.predictor.watch.fit(*self.known_watches(model.cuts.watch_at_most_s))
        model.to(chosen_device(self.settings.device))
        catalogue = bind(self.vocabulary, self.dataset)
        if self.settings.loss.retrieval > 0 and self.settings.model.retrieval.co_watched > 0:
            vectors = co_watched_vectors(
                self.dataset,
                known,
                self.settings.model.retrieval.co_watched,
                seed=self.settings.seed,
            )
            device = chosen_device(self.settings.device)
            model.retrieval.fill(
                torch.from_numpy(catalogue.video).to(device), torch.from_numpy(vectors).to(device)
            )
        self.learner = Learner(
            model, catalogue, self.dataset, self.settings, self.finding_teacher(catalogue, known)
        )

    def finding_teacher(
        self, catalogue: Catalogue, known: NDArray[np.int64]
    ) -> FindingTeacher | None:
        """Return what teaches the retrieval head; None where it is not taught."""
        if self.settings.loss.retrieval == 0:
            return None
        return FindingTeacher(
            self.dataset,
            catalogue,
            known,
            last_day=int(self.window.day[known].max()),
            sampled=self.settings.model.retrieval.sampled,
            glances=self.settings.loss.retrieval_glances,
        )

    def starting_point(self) -> tuple[dict[str, float], list[float]]:
        """Return each objective's share of positives, and each grid bin's share of leavers."""
        rows = np.flatnonzero(self.rows)
        rates = {}
        for name in self.objectives:
            label = self.dataset.events[f"label_{name}"].take(rows)
            rates[name] = float((label == 1).sum() / max((label >= 0).sum(), 1))
        watch_s = self.dataset.events["watch_s"].take(rows).astype(np.float64)
        counts = np.bincount(grid_bin(watch_s[~np.isnan(watch_s)]), minlength=NUM_BINS)
        at_risk = counts[::-1].cumsum()[::-1]
        return rates, list((counts[:-1] + 0.5) / (at_risk[:-1] + 1.0))

    def known_watches(self, at_most_s: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the training rows' known watch times, seconds, and their duration buckets."""
        rows = np.flatnonzero(self.rows)
        watch_s = self.dataset.events["watch_s"].take(rows).astype(np.float64)
        bucket = self.dataset.events["duration_bucket"].take(rows).astype(np.int64)
        known = ~np.isnan(watch_s)
        return (
            torch.from_numpy(np.minimum(watch_s[known], at_most_s)),
            torch.from_numpy(bucket[known]),
        )

    def search(self) -> None:
        """Train until the held-out days are predicted no better."""
        while (
            self.position.passes < self.settings.passes_at_most
            and self.position.passes - self.position.best_pass < self.settings.patience
        ):
            training = self.one_pass()
            with interrupts_noted() as interrupted:
                self.compare(training, self.validate())
            if interrupted():
                raise KeyboardInterrupt

    def compare(self, training: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Keep the weights if the held-out days are predicted better than ever; tell and save.

        Raises:
            RunError: The validation loss is not a finite number.
        """
        total = sum(getattr(self.settings.loss, name) * value for name, value in validation.items())
        if not validation or not math.isfinite(total):
            raise RunError(
                f"the validation loss of pass {self.position.passes} is {total}, must be a finite "
                f"number over known outcomes (terms: {dict(validation)}). Lower "
                "optimizer.learning_rate, or hold out more validation_days."
            )
        if total < self.position.best_loss:
            self.position.best_loss, self.position.best_pass = total, self.position.passes
            self.best = self.learner.averaged_weights()
        self.tell(training, validation, total)

    def refit(self) -> None:
        """Train anew on the whole window, for as many passes as were best."""
        while self.position.passes < self.position.best_pass:
            self.tell(self.one_pass(), {}, None)

    def one_pass(self) -> dict[str, float]:
        """Go once over the phase's training rows, from where the position says."""
        position = self.position
        generator = np.random.default_rng(
            [self.settings.seed, int(position.phase == "refit"), position.passes]
        )
        plan = self.plan(generator)
        batches = self.learner.batches(plan, generator)[position.batch :]
        rows = sum(int(plan.num_candidates[chosen].sum()) for chosen in batches)
        what = f"{position.phase} pass {position.passes + 1}"
        with (
            self.progress.task(what, total=rows, unit="impressions") as task,
            interrupts_noted() as interrupted,
            ReadAhead(batches, lambda chosen: self.learner.read(plan, chosen)) as ahead,
        ):
            for batch in ahead:
                loss, number = self.learner.step(batch, position.step)
                position.batch += 1
                position.step += 1
                if self.checkpoints.due():
                    self.save(wait=False)
                try:
                    task.advance(number, note=f"loss {loss:.4f}")
                    if interrupted():
                        raise KeyboardInterrupt
                except KeyboardInterrupt:
                    self.save()
                    raise
        position.passes, position.batch = position.passes + 1, 0
        self.waited_s = ahead.waited_s
        return self.learner.take_mean_losses()

    def plan(self, generator: np.random.Generator) -> Plan:
        """Draw how each viewer's stretch sees, and cut the stretches."""
        viewers = np.unique(self.dataset.events["viewer"].take(np.flatnonzero(self.rows)))
        return plan_stretches(
            self.dataset,
            self.rows,
            draw_views(len(viewers), self.settings.daily_share, generator),
            reach=self.settings.model.encoder.reach,
        )

    def validate(self) -> dict[str, float]:
        """Return the log-loss of each objective on the held-out days, daily view."""
        rows = self.window.validation()
        plan = plan_stretches(self.dataset, rows, View(), reach=self.settings.model.encoder.reach)
        with self.learner.averaged() as model:
            predicted = predict_rows(
                model, self.learner.catalogue, self.dataset, plan, progress=self.progress
            )
        losses = {}
        for name, logits in predicted.logits.items():
            label = self.dataset.events[f"label_{name}"].take(predicted.row)
            known = label >= 0
            if known.any():
                losses[name] = log_loss(logits[known], label[known])
        return losses

    def tell(
        self, training: Mapping[str, float], validation: Mapping[str, float], total: float | None
    ) -> None:
        """Keep a finished pass, on disk and in progress.jsonl, and report it."""
        line = {
            "phase": self.position.phase,
            "passes": self.position.passes,
            "step": self.position.step,
            "training": dict(training),
            "validation": dict(validation),
            "validation_loss": total,
            "best_pass": self.position.best_pass,
            "waited_s": round(self.waited_s, 3),
        }
        self.position.history.append(line)
        with replace_file(self.out / PROGRESS_FILE) as aside:
            aside.write_text("".join(json.dumps(each) + "\n" for each in self.position.history))
        self.save()
        if self.report is not None:
            self.report(line)

    def final_weights(self) -> dict[str, torch.Tensor]:
        """Return the weights to keep."""
        if self.position.phase == "refit" and self.settings.refit:
            return self.learner.averaged_weights()
        return self.best

    def save(self, *, wait: bool = True) -> None:
        """Write everything that is needed to go on."""
        tensors = self.learner.tensors() | {
            f"best.{name}": value for name, value in self.best.items()
        }
        position = {
            "identity": self.identity,
            "counts": self.learner.counts(),
            **dataclasses.asdict(self.position),
        }
        self.checkpoints.save(tensors, position, wait=wait)

    def restore(self, identity: dict[str, Any]) -> None:
        """Go on from what `save` wrote.

        Raises:
            RunError: It belongs to another version, dataset, window or settings.
        """
        tensors, position = load_unfinished(self.out)
        self.identity = identity
        for key, now in identity.items():
            before = position["identity"][key]
            if before != now:
                raise RunError(
                    f"the unfinished training in {self.out} was begun with "
                    f"{key} {_difference(before, now)}. Give the same as before, or leave --resume "
                    "out to train from the start."
                )
        self.checkpoints = self._checkpoints()
        self.begin(position["phase"])
        names = [each.name for each in dataclasses.fields(_Position)]
        loss = position["best_loss"]
        self.position = _Position(
            **{name: position[name] for name in names}
            | {"best_loss": math.inf if loss is None else loss}
        )
        self.best = {
            name.removeprefix("best."): value
            for name, value in tensors.items()
            if name.startswith("best.")
        }
        self.learner.restore(tensors, position["counts"])


def log_loss(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Return the mean of -[y log p + (1 - y) log(1 - p)], natural logs.

    >>> round(log_loss(np.array([0.0, 0.0]), np.array([0, 1], dtype=np.int8)), 4)
    0.6931
    """
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                inner = _difference(before.get(key), now[key])
                return f"{key}.{inner}" if isinstance(now[key], dict) else f"{key} = {inner}"
    return f"{before}, is now given {now}"
