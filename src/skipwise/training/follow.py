"""How does a model keep learning from a log that grows?

    RUN, a growing log  ->  Follower.advance  ->  each part of the log: tested, then learnt, once
                                              ->  every N minutes of the log: a RUN, OUT/model-K

- Test-then-train: a part is predicted with the weights of before, then learnt in one pass, so the
  figures told on the way are of events the model had not learnt.
- Parts are cut by their place among the log's taken rows, never by when they arrived: broken off
  anywhere and gone on with, the same weights come out, bit by bit; no event is skipped or learnt
  twice.
- An event of the RUN's own days is known to it: it is counted and passed over, wherever it stands.
- What was consumed is remembered by a digest: a log that shrank or was rewritten is refused.
- The vocabulary is the first RUN's: a new video is known by its content and counts.

Features are prepared anew from the log whenever it has grown by a part; that costs as much as
`prepare` does. Reads `events`, `features`, `model`; is read by the command line.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray
from safetensors.torch import load_file

from skipwise.errors import RunError
from skipwise.events.read import EventLog
from skipwise.features.dataset import Dataset, day_number, iso_day
from skipwise.features.prepare import PrepareSettings, prepare
from skipwise.features.stretches import plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import predict_rows
from skipwise.progress import SILENT, Progress
from skipwise.settings import apply_settings, check_setting
from skipwise.storage import replace_file, write_json
from skipwise.training.checkpoint import TrainedRun, dataset_facts, load_run, save_run
from skipwise.training.finding import FindingTeacher
from skipwise.training.followed_rows import Rows, digest, rows_of
from skipwise.training.held_out import log_losses
from skipwise.training.learner import Learner
from skipwise.training.published import LATEST_FILE, forget_old, model_name
from skipwise.training.unfinished import Checkpoints, described, find_unfinished
from skipwise.training.views import draw_views

PROGRESS_FILE = "progress.jsonl"
WARM_STEP = 1000
"""Steps the optimizer is taken to have behind it: no warm-up, and a mean that remembers."""

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowSettings:
    """How a log is followed."""

    events_together: int = 2000
    """Events of a part: tested, then learnt."""
    publish_minutes: float = 15.0
    """Of the log's own time, after which a model is published."""
    poll_s: float = 60.0
    """How often the log is looked at."""
    late_minutes: float = 0.0
    """Of a server's state: how long a view waits for outcomes that come late."""
    models_kept: int = 20
    """The newest published models that stay on disk, besides those that a server answers by."""
    learning_rate_factor: float = 0.3
    """Of the run's own learning rates: one pass over news, not many over everything."""

    def __post_init__(self) -> None:
        check_setting("events_together", self.events_together, at_least=10, at_most=10_000_000)
        check_setting("publish_minutes", self.publish_minutes, above=0, at_most=1e6)
        check_setting("poll_s", self.poll_s, above=0, at_most=86_400)
        check_setting("late_minutes", self.late_minutes, at_least=0, at_most=1e6)
        check_setting("models_kept", self.models_kept, at_least=2, at_most=100_000)
        check_setting("learning_rate_factor", self.learning_rate_factor, above=0, at_most=100)


@dataclass(slots=True)
class Position:
    """Where following stands."""

    base: str
    """Checksum of the run it began with."""
    rows: int = 0
    """Events of the log consumed: learnt, or known to the run from the start."""
    digest: str = ""
    """Of those events."""
    step: int = WARM_STEP
    published: int = 0
    published_ms: int = 0
    """`shown_at_ms` of the last event learnt when a model was last published."""
    latest_ms: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Follower:
    """Follows one log into one folder; see the module header."""

    def __init__(
        self,
        run: Path,
        out: Path,
        settings: FollowSettings,
        progress: Progress = SILENT,
        report: Report | None = None,
    ) -> None:
        """Begin with a run, or go on where an earlier one in `out` was broken off.

        Raises:
            RunError: The run is damaged, or `out` was begun with another run.
        """
        self.run, self.out, self.settings = load_run(run), out, settings
        self.progress, self.report = progress, report
        self.known_until = day_number(self.run.description["window"]["last_day"])
        self.started_s = time.monotonic()
        base = str(self.run.description["checksums"]["model.safetensors"])
        self.position, self.tensors = Position(base=base), {}
        if described(out / "resume"):
            state, held = find_unfinished(out)
            if held["base"] != base:
                raise RunError(
                    f"{out} follows a log with the run {held['base'][:12]}, is now given "
                    f"{base[:12]}; it must be the same. Give that run, or another --out."
                )
            self.position = Position(**{key: held[key] for key in _NAMES})
            self.tensors = load_file(state)
        self.checkpoints = Checkpoints(out, keep=2, every_s=0)

    def advance(self, log: EventLog, connection: Backend) -> int:
        """Learn whatever whole parts the log has more; returns how many.

        Raises:
            RunError: The log shrank or was rewritten, or does not fit the run.
        """
        rows = rows_of(log)
        self._check_grown(rows.keys)
        if not self.position.rows:
            self._begin(rows)
        parts = (len(rows.keys) - self.position.rows) // self.settings.events_together
        if not parts:
            return 0
        self.out.mkdir(parents=True, exist_ok=True)
        settings = apply_settings(PrepareSettings(), self.run.description["dataset"]["settings"])
        prepare(log, connection, self.out / "dataset", settings, self.progress)
        dataset = Dataset.open(self.out / "dataset")
        learner = self._learner(dataset)
        place = np.searchsorted(rows.sources, dataset.events["source_order"].all())
        with self.progress.task("follow", total=parts, unit="parts") as task:
            self._publish_if_due(learner, dataset, rows)
            for _ in range(parts):
                self._one_part(learner, dataset, place, rows)
                self._publish_if_due(learner, dataset, rows)
                task.advance(note=f"{self.position.rows:,} events")
        return parts

    def _one_part(
        self, learner: Learner, dataset: Dataset, place: NDArray[np.int64], rows: Rows
    ) -> None:
        """Test and learn the next part; `place` (events,) is where each stands in the log."""
        position, events = self.position, dataset.events
        last = position.rows + self.settings.events_together
        fresh = (place >= position.rows) & (place < last)
        fresh &= np.asarray(events["counter_row"].all()) >= 0
        fresh &= np.asarray(events["day"].all()) > self.known_until
        figures: dict[str, dict[str, float]] = {}
        if fresh.any():
            learner.finding = self._finding(learner, dataset, np.flatnonzero(place < last))
            figures = self._test(learner, dataset, fresh)
            self._learn(learner, dataset, fresh)
        position.rows, position.digest = last, digest(rows.keys[:last])
        position.latest_ms = max(position.latest_ms, int(rows.shown_ms[:last].max(initial=0)))
        line = {
            "events": last,
            "learnt": int(fresh.sum()),
            "step": position.step,
            "tested": figures,
            "losses": learner.take_mean_losses(),
        }
        position.history.append(line)
        self._keep(learner)
        _write_lines(self.out / PROGRESS_FILE, position.history)
        if self.report is not None:
            self.report(line)

    def _finding(
        self, learner: Learner, dataset: Dataset, known: NDArray[np.int64]
    ) -> FindingTeacher | None:
        """Teach finding as of the log up to a part's end, whatever it has grown by since."""
        settings = self.run.settings
        if settings.loss.retrieval <= 0:
            return None
        return FindingTeacher(
            dataset,
            learner.catalogue,
            known,
            last_day=int(dataset.events["day"].take(known).max()),
            sampled=settings.model.retrieval.sampled,
            glances=settings.loss.retrieval_glances,
        )

    def _test(
        self, learner: Learner, dataset: Dataset, chosen: NDArray[np.bool_]
    ) -> dict[str, dict[str, float]]:
        """Predict a part with the weights of before: log-loss and sum p / sum y per objective."""
        reach = self.run.settings.model.encoder.reach
        plan = plan_stretches(dataset, chosen, View(mode="progressive"), reach=reach)
        with learner.averaged() as model, _chance_kept():
            predicted = predict_rows(model, learner.catalogue, dataset, plan)
        figures = {}
        for name, logits in predicted.logits.items():
            label = dataset.events[f"label_{name}"].take(predicted.row)
            known = label >= 0
            if known.any():
                p = 1 / (1 + np.exp(-logits[known]))
                figures[name] = {
                    "log_loss": float(log_losses(logits[known], label[known]).mean()),
                    "predicted": float(p.mean()),
                    "observed": float((label[known] == 1).mean()),
                }
        return figures

    def _learn(self, learner: Learner, dataset: Dataset, chosen: NDArray[np.bool_]) -> None:
        generator = np.random.default_rng([self.run.settings.seed, self.position.step])
        viewers = np.unique(dataset.events["viewer"].take(np.flatnonzero(chosen)))
        views = draw_views(len(viewers), self.run.settings.daily_share, generator)
        reach = self.run.settings.model.encoder.reach
        plan = plan_stretches(dataset, chosen, views, reach=reach)
        for batch in learner.batches(plan, generator):
            learner.step(learner.read(plan, batch), self.position.step)
            self.position.step += 1

    def _learner(self, dataset: Dataset) -> Learner:
        torch.manual_seed(self.run.settings.seed)
        run, factor = load_run(self.run.path), self.settings.learning_rate_factor
        optimizer = run.settings.optimizer
        slower = dataclasses.replace(
            optimizer,
            learning_rate=optimizer.learning_rate * factor,
            id_learning_rate=optimizer.id_learning_rate * factor,
        )
        settings = dataclasses.replace(run.settings, optimizer=slower)
        learner = Learner(run.model, run.catalogue(dataset), dataset, settings)
        if self.tensors:
            learner.restore(self.tensors, {})
        return learner

    def _publish_if_due(self, learner: Learner, dataset: Dataset, rows: Rows) -> None:
        position = self.position
        waited_ms = position.latest_ms - position.published_ms
        if waited_ms < self.settings.publish_minutes * 60_000:
            return
        name = model_name(position.published + 1)
        last_day = max(self.known_until, int(rows.day[: position.rows].max(initial=-1)))
        seconds = time.monotonic() - self.started_s
        publish(self.out / name, self.run, learner, dataset, position, last_day, seconds)
        write_json(self.out / LATEST_FILE, {"model": name, "events": position.rows})
        position.published, position.published_ms = position.published + 1, position.latest_ms
        self._keep(learner)
        forget_old(self.out, position.published, self.settings.models_kept)

    def _keep(self, learner: Learner) -> None:
        """Put weights and position on disk together."""
        self.tensors = {name: value.clone() for name, value in learner.tensors().items()}
        self.checkpoints.save(self.tensors, dataclasses.asdict(self.position))

    def _begin(self, rows: Rows) -> None:
        """Pass over what the run has learnt from already: the days of its training window."""
        fresh = np.flatnonzero(rows.day > self.known_until)
        self.position.rows = int(fresh[0]) if fresh.size else len(rows.keys)
        self.position.digest = digest(rows.keys[: self.position.rows])
        newest = int(rows.shown_ms[: self.position.rows].max(initial=0))
        self.position.latest_ms = self.position.published_ms = newest

    def _check_grown(self, keys: NDArray[np.uint64]) -> None:
        position = self.position
        if len(keys) < position.rows:
            raise RunError(
                f"the log has {len(keys):,} events, {position.rows:,} were consumed before: it "
                "shrank; a followed log must only grow. Give the whole log, or follow anew with "
                "another --out."
            )
        if position.rows and digest(keys[: position.rows]) != position.digest:
            raise RunError(
                f"the first {position.rows:,} events of the log are not those that were consumed: "
                "it was rewritten; a followed log must only grow at its end. Give the log as it "
                "was, or follow anew with another --out."
            )


def publish(
    path: Path,
    run: TrainedRun,
    learner: Learner,
    dataset: Dataset,
    position: Position,
    last_day: int,
    seconds: float,
) -> None:
    """Write the model as it is now, as a RUN that can be served.

    Args:
        path: The RUN folder.
        run: The one that was begun with.
        learner: Holds the weights.
        dataset: What was learnt from.
        position: How far.
        last_day: Of the events consumed.
        seconds: Since following was begun or last taken up.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    until = int(position.latest_ms)
    kept = ("objectives", "masked_objectives", "label_shares", "best_pass", "validation_loss")
    save_run(
        path,
        weights=learner.averaged_weights(),
        vocabulary=run.vocabulary,
        settings=run.settings,
        facts=dataset_facts(dataset),
        more={
            **{key: run.description[key] for key in kept if key in run.description},
            "window": {**run.description["window"], "last_day": iso_day(last_day)},
            "precision": learner.precision,
            "seconds": seconds,
            "followed": {"base": position.base, "events": position.rows, "until_ms": until},
        },
    )


def follow(
    follower: Follower,
    read: Callable[[], tuple[EventLog, Backend]],
    *,
    once: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look at the log again and again; `once`: until no whole part is left.

    Raises:
        RunError: The log shrank or was rewritten, or does not fit the run.
    """
    while True:
        log, connection = read()
        parts = follower.advance(log, connection)
        if once and not parts:
            return
        if not parts:
            sleep(follower.settings.poll_s)


_NAMES = tuple(each.name for each in dataclasses.fields(Position))


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    with replace_file(path) as aside:
        aside.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@contextlib.contextmanager
def _chance_kept() -> Iterator[None]:
    """Leave torch's generator as it was: testing must not change what is learnt next."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
