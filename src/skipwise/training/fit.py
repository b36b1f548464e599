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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from skipwise.errors import RunError
from skipwise.features.dataset import Dataset, iso_day
from skipwise.features.stretches import Plan, plan_stretches
from skipwise.model.batch import Batch
from skipwise.progress import SILENT, Progress
from skipwise.settings import settings_to_dict
from skipwise.storage import replace_file
from skipwise.training.checkpoint import PROGRESS_FILE, dataset_facts, save_run
from skipwise.training.held_out import held_out_losses
from skipwise.training.learner import Learner
from skipwise.training.loader import ReadAhead
from skipwise.training.machine import interrupts_noted
from skipwise.training.memory import check_enough
from skipwise.training.outset import Outset, set_out
from skipwise.training.position import Position, check_same, one_by_one
from skipwise.training.precision import BATCHES, choose_precision
from skipwise.training.processes import ALONE, Processes, code_digest
from skipwise.training.settings import TrainSettings
from skipwise.training.shared_checkpoints import SharedCheckpoints, fill_from
from skipwise.training.unfinished import FOLDER, Checkpoints, check_tensors, find_unfinished
from skipwise.training.views import draw_views
from skipwise.training.window import TrainingWindow, learnable_objectives, training_window

Report = Callable[[Mapping[str, Any]], None]

_ALWAYS_THERE = ("weights.", "mean.", "table.")
"""How the names of a checkpoint's tensors begin that are there from the first step on."""


def train(
    dataset: Dataset,
    out: Path,
    settings: TrainSettings,
    *,
    last_day: int | None = None,
    resume: bool = False,
    processes: Processes = ALONE,
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
        processes: Who trains it together (`joined`); the first one writes.
        progress: Who is told how far it is.
        report: Is given one dict per finished pass (what `progress.jsonl` holds), and
            `{"told": sentence}` on a choice that was made by measurement.

    Raises:
        DatasetError: The window is outside the data or too small.
        RunError: Nothing to resume, or it had another dataset or setting; or the loss is no number.
        SettingError: It takes more memory than there is.
        StorageError: The disk is full.
    """
    check_enough(dataset, settings, processes)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    window = training_window(dataset, last_day, settings.validation_days)
    objectives, masked = learnable_objectives(dataset, window.training(with_validation=False))
    run = _Run(dataset, out, settings, window, objectives, processes, progress, report)
    identity = {
        "fingerprint": dataset.fingerprint,
        "--until": iso_day(window.last_day),
        "settings": json.loads(json.dumps(settings_to_dict(settings))),
    }
    processes.check_alike({"code": code_digest(), "torch's version": torch.__version__})
    processes.check_alike(one_by_one(identity))
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
    weights = run.learner.tables.gathered(run.final_weights())
    if processes.first:
        save_run(
            out,
            weights=weights,
            vocabulary=run.outset.vocabulary,
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
                "label_shares": run.outset.label_shares,
                "precision": run.position.precision,
                "best_pass": run.position.best_pass,
                "validation_loss": run.position.best_loss,
                "seconds": time.monotonic() - started,
            },
        )
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    processes.wait()


class _Run:
    """One training run: its phases, and how it is broken off and taken up again."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        settings: TrainSettings,
        window: TrainingWindow,
        objectives: tuple[str, ...],
        processes: Processes,
        progress: Progress,
        report: Report | None,
    ) -> None:
        self.dataset, self.out, self.settings = dataset, out, settings
        self.window, self.objectives, self.processes = window, objectives, processes
        self.progress, self.report = progress, report
        self.identity: dict[str, Any] = {}
        self.position = Position()
        self.best: dict[str, torch.Tensor] = {}
        self.learner: Learner
        self.checkpoints: Checkpoints
        self.waited_s = 0.0
        self.outset: Outset

    def start(self, identity: dict[str, Any]) -> None:
        """Begin from nothing."""
        self.identity = identity
        if self.processes.first:
            shutil.rmtree(self.out / FOLDER, ignore_errors=True)
        self.processes.wait()
        self.checkpoints = self._checkpoints()
        self.begin("search")
        self.save(wait=False)

    def _checkpoints(self) -> Checkpoints:
        keep, every_s = self.settings.checkpoints_kept, self.settings.checkpoint_every_s
        if self.processes.number > 1:
            return SharedCheckpoints(self.out, keep=keep, every_s=every_s, processes=self.processes)
        return Checkpoints(self.out, keep=keep, every_s=every_s)

    def begin(self, phase: str) -> None:
        """Set up a phase: vocabulary, normalisers and fresh weights from its own rows."""
        self.position = dataclasses.replace(self.position, phase=phase, passes=0, batch=0, step=0)
        self.best = {}
        self.rows = self.window.training(with_validation=phase == "refit")
        self.outset = set_out(
            self.dataset,
            self.rows,
            np.flatnonzero(self.window.known(with_validation=phase == "refit")),
            self.objectives,
            self.settings,
            self.processes,
        )
        self.learner = self.outset.learner

    def search(self) -> None:
        """Train until the held-out days are predicted no better."""
        while (
            self.position.passes < self.settings.passes_at_most
            and self.position.passes - self.position.best_pass < self.settings.patience
        ):
            training = self.one_pass()
            with interrupts_noted() as interrupted:
                held_out = self.window.validation()
                self.compare(training, held_out_losses(self.learner, held_out, self.progress))
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
            self.best = {}  # before the new ones are made: large tables are held once
            self.best = self.learner.averaged_weights()
        self.end_pass(training, validation, total)

    def refit(self) -> None:
        """Train anew on the whole window, for as many passes as were best."""
        while self.position.passes < self.position.best_pass:
            self.end_pass(self.one_pass(), {}, None)

    def one_pass(self) -> dict[str, float]:
        """Go once over the phase's training rows, from where the position says."""
        position = self.position
        generator = np.random.default_rng(
            [self.settings.seed, int(position.phase == "refit"), position.passes]
        )
        plan = self.plan(generator)
        batches = self.learner.batches(plan, generator)[position.batch :]
        if not self.position.precision:
            self.choose_precision([self.learner.read(plan, each) for each in batches[:BATCHES]])
        self.learner.precision = self.position.precision
        part = self.processes.part
        rows = sum(int(plan.num_candidates[each[part(len(each))]].sum()) for each in batches)
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
                    if self.processes.number == 1:  # several stand at different steps
                        self.save()
                    raise
        position.passes, position.batch = position.passes + 1, 0
        self.waited_s = ahead.waited_s
        return self.learner.take_mean_losses()

    def choose_precision(self, batches: list[Batch]) -> None:
        """Choose before the first step; tell."""
        chosen = choose_precision(self.learner, batches)
        self.position.precision = chosen.name
        if self.report is not None and chosen.gain is not None:
            self.report({"told": str(chosen)})

    def plan(self, generator: np.random.Generator) -> Plan:
        """Draw how each viewer's stretch sees, and cut the stretches."""
        viewers = np.unique(self.dataset.events["viewer"].take(np.flatnonzero(self.rows)))
        return plan_stretches(
            self.dataset,
            self.rows,
            draw_views(len(viewers), self.settings.daily_share, generator),
            reach=self.settings.model.encoder.reach,
        )

    def end_pass(
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
        if self.processes.first:
            with replace_file(self.out / PROGRESS_FILE) as aside:
                aside.write_text("".join(json.dumps(line) + "\n" for line in self.position.history))
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
        position = {
            "identity": self.identity,
            "counts": self.learner.counts(),
            **dataclasses.asdict(self.position),
        }
        self.checkpoints.save(self.tensors(), position, wait=wait)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint holds, by name; not copies."""
        best = self.learner.tables.as_shards(self.best)
        return self.learner.tensors() | {f"best.{name}": value for name, value in best.items()}

    def restore(self, identity: dict[str, Any]) -> None:
        """Go on from what `save` wrote.

        Raises:
            RunError: It belongs to another version, dataset, window or settings.
        """
        state, position = find_unfinished(self.out)
        self.identity = identity
        check_same(position["identity"], identity, self.out)
        self.checkpoints = self._checkpoints()
        self.begin(position["phase"])
        self.position = Position.of(position)
        kept = self.learner.tensors().items()
        check_tensors(state, {name: each for name, each in kept if name.startswith(_ALWAYS_THERE)})
        if state.is_dir():
            if self.position.phase == "search" and self.position.best_pass:
                self.best = self.learner.averaged_weights()  # of the right sizes, to be filled
            self.learner.begin_moments()
            torch.manual_seed(self.settings.seed + self.position.step)
            filled = {name: value for name, value in self.tensors().items() if name != "random"}
            fill_from(state, filled, alone=self.processes.number == 1)
            self.learner.restore_counts(position["counts"])
        else:
            tensors = load_file(state)
            best = {name: value for name, value in tensors.items() if name.startswith("best.")}
            self.best = self.learner.tables.here(
                {name.removeprefix("best."): value for name, value in best.items()}
            )
            self.learner.restore(tensors, position["counts"])
