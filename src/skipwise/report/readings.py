"""What does the trained model say about a sample of events?

    Findings  ->  take_readings  ->  Readings: rows, watch curves, attention by feedback state

- Rows are taken at even distances among those of the days asked for, so the same run gives the same
  sample; each sees what a nightly feed would (daily view).
- Attention is summed by the past events' feedback state, beside the share of such events in view.

Reads `model`, `features`; is read by the sections on curves and attention.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset, day_number, iso_day
from skipwise.features.stretches import batches_by_size, plan_stretches, read_stretches
from skipwise.features.view import View
from skipwise.features.vocabulary import Catalogue
from skipwise.labels.feedback import Feedback
from skipwise.labels.grid import GRID_S
from skipwise.model.batch import Batch, to_batch
from skipwise.model.reading import visible_window
from skipwise.model.recommender import Recommender
from skipwise.progress import SILENT, Progress
from skipwise.report.findings import Findings

ROWS_AT_MOST = 2000
NUM_STATES = len(Feedback)
CURVE_AT_S = np.array(GRID_S[1:])
"""Seconds at which mean curves are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Which days are sampled."""

    first_day: int
    last_day: int
    words: str
    """What these days are to the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Where the candidates look, summed over those with a past; Q queries, F feedback states."""

    num_candidates: int
    by_state: NDArray[np.float64]
    """(Q, F) sum of the share of attention (mean over heads) on events of each state."""
    in_view: NDArray[np.float64]
    """(F,) sum of the share of visible events that have each state."""
    no_past: NDArray[np.float64]
    """(Q,) sum of the share of attention on "no past"."""
    num_events: NDArray[np.int64]
    """(F,) visible events, an event counting once per candidate that sees it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """Watch curves of N events whose watch time is known."""

    row: NDArray[np.int64]
    """(N,) event rows, rising."""
    survival: NDArray[np.float64]
    """(N, len(at_s)) predicted share still watching at each second asked for."""
    at_s: NDArray[np.float64]
    watch_s: NDArray[np.float64]
    """(N,) seconds really watched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """What was read off the model."""

    attention: Attention
    curves: Curves | None
    """None where the model has no watch curve."""


def span_of(findings: Findings, dataset: Dataset) -> Span:
    """Choose the days to sample: those evaluated, else those after training, else the last."""
    first, last = dataset.days
    if findings.card is not None:
        days = findings.card["days"]
        start, end = day_number(days["from"]), day_number(days["to"])
        if first <= start and end <= last:
            return Span(first_day=start, last_day=end, words="the days it was measured on")
    after = day_number(findings.run.description["window"]["last_day"]) + 1
    if after <= last:
        return Span(first_day=after, last_day=last, words="days after the training window")
    return Span(first_day=last, last_day=last, words="a day it was trained on")


def span_text(span: Span) -> str:
    """Say which days, as `2022-05-02 to 2022-05-03, the days it was measured on`."""
    first, last = iso_day(span.first_day), iso_day(span.last_day)
    return f"{first if first == last else f'{first} to {last}'}, {span.words}"


def rows_of(dataset: Dataset, span: Span) -> NDArray[np.int64]:
    """Find the timed event rows of some days."""
    day = dataset.events["day"].all()
    inside = (day >= span.first_day) & (day <= span.last_day)
    rows = np.flatnonzero(inside)
    return rows[dataset.events["counter_row"].take(rows) >= 0]


def take_readings(
    findings: Findings,
    dataset: Dataset,
    rows: NDArray[np.int64],
    at_s: NDArray[np.float64],
    *,
    progress: Progress = SILENT,
) -> Readings:
    """Ask the model about some events.

    Args:
        findings: Holds the run.
        dataset: Where the rows lie.
        rows: (N,) timed event rows.
        at_s: Seconds at which watch curves are read.
        progress: Who is told.
    """
    run = findings.run
    selected = np.zeros(dataset.num_events, dtype=bool)
    selected[rows] = True
    plan = plan_stretches(dataset, selected, View(), reach=run.settings.model.encoder.reach)
    reader = _Reader(run.model, run.catalogue(dataset), at_s)
    with progress.task("asking the model", total=len(rows), unit="impressions") as task:
        for chosen in batches_by_size(plan, np.arange(len(plan)), 8192):
            stretches = read_stretches(dataset, plan, chosen)
            reader.read(to_batch(stretches, reader.catalogue))
            task.advance(len(stretches.row))
    return Readings(attention=reader.attention(), curves=reader.curves())


def sample(rows: NDArray[np.int64], at_most: int = ROWS_AT_MOST) -> NDArray[np.int64]:
    """Take rows at even distances.

    >>> sample(np.arange(10), 5).tolist()
    [0, 2, 4, 6, 9]
    """
    if len(rows) <= at_most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]


class _Reader:
    """Adds up what batch after batch says."""

    def __init__(self, model: Recommender, catalogue: Catalogue, at_s: NDArray[np.float64]) -> None:
        self.model, self.catalogue, self.at_s = model, catalogue, at_s
        queries = model.settings.encoder.queries
        self.num_candidates = 0
        self.by_state = np.zeros((queries, NUM_STATES))
        self.in_view = np.zeros(NUM_STATES)
        self.no_past = np.zeros(queries)
        self.num_events = np.zeros(NUM_STATES, dtype=np.int64)
        self.rows: list[NDArray[np.int64]] = []
        self.survival: list[NDArray[np.float64]] = []
        self.watch_s: list[NDArray[np.float64]] = []

    @torch.no_grad()
    def read(self, batch: Batch) -> None:
        """Ask about one batch."""
        inputs = self.model.inputs(batch)
        _, attention = self.model.attend(batch, inputs, self.model.encode(batch, inputs))
        self._add_attention(batch, attention)
        curve = self.model(batch).predictions.curve
        if curve is None:
            return
        watch_s = batch.targets["watch_s"].double().numpy()
        known = np.flatnonzero(~np.isnan(watch_s))
        at = [curve.survival(torch.full((len(watch_s),), float(second))) for second in self.at_s]
        self.rows.append(batch.row[known])
        self.survival.append(torch.stack(at, 1).double().numpy()[known])
        self.watch_s.append(watch_s[known])

    def attention(self) -> Attention:
        """Return the sums."""
        return Attention(
            num_candidates=self.num_candidates,
            by_state=self.by_state,
            in_view=self.in_view,
            no_past=self.no_past,
            num_events=self.num_events,
        )

    def curves(self) -> Curves | None:
        """Return the curves in the order of the rows."""
        if not self.rows:
            return None
        row = np.concatenate(self.rows)
        order = np.argsort(row, kind="stable")
        return Curves(
            row=row[order],
            survival=np.concatenate(self.survival)[order],
            at_s=self.at_s,
            watch_s=np.concatenate(self.watch_s)[order],
        )

    def _add_attention(self, batch: Batch, attention: torch.Tensor) -> None:
        """Sum attention (queries, M, heads, 1 + T) by feedback state, of those with a past."""
        length = batch.feedback.shape[1]
        window = self.model.settings.encoder.history_length
        visible, _ = visible_window(batch.prefix, length, window)
        visible = visible & batch.token_valid[batch.stretch]
        with_past = visible.any(1)
        visible = visible[with_past].double()
        state = torch.nn.functional.one_hot(batch.feedback, NUM_STATES).double()
        state = state[batch.stretch[with_past]]
        looked = attention[:, with_past].double().mean(2)
        self.by_state += torch.einsum("qmt,mtf->qf", looked[..., 1:], state).numpy()
        self.no_past += looked[..., 0].sum(1).numpy()
        share = visible / visible.sum(1, keepdim=True)
        self.in_view += torch.einsum("mt,mtf->f", share, state).numpy()
        self.num_events += torch.einsum("mt,mtf->f", visible, state).long().numpy()
        self.num_candidates += int(with_past.sum())
