"""What a model reads at once: stretches of viewers' events, and the candidates scored on them.

    Dataset, candidate rows  ->  plan_stretches  ->  Plan (which tokens, which candidates)
    Plan, some stretches     ->  read_stretches  ->  Stretches (B, T) events + (M,) candidates

- A stretch is encoded once; each of its candidates reads a prefix of it (`visibility`). It reaches
  back far enough that no candidate reads a shorter history than it had.
- Everything here is a code or a bucket of a code; which of them a model knows is its vocabulary's
  business.
- B stretches, T events (padded at the end), M candidates (flat, of all stretches in order).

Reads `dataset` and `visibility`; is read by training, evaluation and serving.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.features.dataset import Column, Dataset
from skipwise.features.visibility import Mode, Prefix, daily_prefix, live_prefix, window_prefix

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

WATCH_SHARE_EDGES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.98, 1.02, 1.1, 1.5, 2.0)
"""Bucket k >= 1 of watch time over duration starts at edge k - 1; 0 is unknown."""
NUM_GAP_BUCKETS = 24
"""Gaps by powers of two of a second: 1 = under a second; 0 = no gap is known."""
NUM_PLACES = 16
"""Places in a session, the last one open."""
NUM_RUNS = 8
"""Lengths of a run of glances, the last one open."""

CounterForm = Literal["day", "event"]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Which outcomes the state may hold when a row is scored."""

    mode: Mode = "daily"
    """Window mode needs `window_last_day`."""
    extra_delay_ms: int = 0
    """Progressive mode: how much later than `known_at` outcomes arrive."""
    window_last_day: int | None = None
    """Window mode: the last day of the training window."""

    def __post_init__(self) -> None:
        if (self.mode == "window") != (self.window_last_day is not None):
            raise SettingError(
                f"window_last_day = {self.window_last_day} in {self.mode} mode; window mode must "
                "have it and no other may. Set both or neither."
            )

    def prefix(self, columns: Mapping[str, NDArray[Any]]) -> Prefix:
        """Count the visible events of one viewer's rows, (T,) -> (T,)."""
        if self.mode == "daily":
            return daily_prefix(columns["known_day"], columns["day"])
        if self.window_last_day is not None:
            return window_prefix(columns["known_day"], self.window_last_day)
        return live_prefix(columns["known_at_ms"], columns["requested_at_ms"], self.extra_delay_ms)

    @property
    def counter_form(self) -> CounterForm:
        """Return which counters this view reads: live, or those of a nightly refresh.

        With an extra delay there are no counters of just that age; the nightly ones stand in. They
        may hold an outcome up to the delay early, in the first hours of a day.
        """
        return "event" if self.mode == "progressive" and self.extra_delay_ms == 0 else "day"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Which stretches there are; one entry per stretch."""

    viewer: Codes
    """(S,) viewer codes."""
    first_row: Codes
    """(S,) the viewer's first event row."""
    start: Codes
    """(S,) the first event read, counted from `first_row`."""
    num_tokens: Codes
    """(S,) events read."""
    candidate_offsets: Codes
    """(S + 1,) where each stretch's candidates start in the two arrays below."""
    candidate_rows: Codes
    """(N,) event rows scored."""
    candidate_prefix: Codes
    """(N,) visible events, counted from the stretch's `start`."""
    view: tuple[View, ...]
    """(S,) how each stretch sees."""

    def __len__(self) -> int:
        return len(self.viewer)

    @property
    def num_candidates(self) -> Codes:
        """(S,) candidates per stretch."""
        return np.diff(self.candidate_offsets)


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Buckets of where and when, each of one shape: (B, T) for events, (M,) for candidates."""

    surface: NDArray[np.int64]
    hour: NDArray[np.int64]
    """0 unknown, 1-24."""
    gap: NDArray[np.int64]
    place: NDArray[np.int64]
    run: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretches:
    """Numbers of one batch, as numpy; see the module header for B, T, M."""

    viewer: Codes
    """(B,) viewer codes."""
    video: Codes
    """(B, T) video codes; -1 = padding."""
    feedback: Codes
    """(B, T) `labels.feedback.Feedback`; 0 = padding."""
    watch_share: Codes
    """(B, T) bucket of watch time over duration."""
    context: Context
    time_s: NDArray[np.float64]
    """(B, T) when shown, seconds since 1970; NaN where untimed or padding."""
    stretch: Codes
    """(M,) which stretch a candidate belongs to."""
    row: Codes
    """(M,) event rows of the candidates."""
    candidate_video: Codes
    """(M,) video codes."""
    candidate_context: Context
    candidate_time_s: NDArray[np.float64]
    """(M,) when requested, seconds since 1970."""
    prefix: Codes
    """(M,) how many of the stretch's events may be read."""
    counters: Floats
    """(M, K) counters in the form of the stretch's view."""
    day: Codes
    """(M,) calendar day of the candidate."""
    targets: Mapping[str, NDArray[Any]]
    """(M,) each: `label_*` int8, `watch_s`, `duration_s`, `watch_rank`, the two thresholds."""


TARGET_COLUMNS = (
    "watch_s",
    "duration_s",
    "watch_rank",
    "effective_above_s",
    "finished_above_s",
)


def plan_stretches(
    dataset: Dataset,
    selected: NDArray[np.bool_],
    view: View | list[View],
    *,
    reach: int,
    candidates_at_most: int = 256,
) -> Plan:
    """Cut the selected rows into stretches.

    Args:
        dataset: Where the rows lie.
        selected: (E,) bool, the event rows to score; untimed rows may not be among them.
        view: How they see: one view, or one per viewer with selected rows, in code order.
        reach: How many events back from its prefix a candidate depends on.
        candidates_at_most: Longest stretch, in candidates.

    Returns:
        The plan, viewers in code order.
    """
    first, _ = dataset.viewer_rows()
    rows = np.flatnonzero(selected)
    viewers, starts = np.unique(dataset.events["viewer"].take(rows), return_index=True)
    columns = {name: dataset.events[name] for name in _VIEW_COLUMNS}
    pieces: list[_Piece] = []
    for place, viewer_rows in enumerate(np.split(rows, starts[1:])) if len(rows) else ():
        viewer = int(viewers[place])
        chosen = view[place] if isinstance(view, list) else view
        span = slice(int(first[viewer]), int(viewer_rows[-1]) + 1)
        mine = {name: _span(column, span) for name, column in columns.items()}
        prefix = chosen.prefix(mine)[viewer_rows - span.start]
        for cut in range(0, len(viewer_rows), candidates_at_most):
            here = slice(cut, cut + candidates_at_most)
            start = max(0, int(prefix[here].min()) - reach)
            pieces.append(
                _Piece(viewer, span.start, start, viewer_rows[here], prefix[here] - start, chosen)
            )
    return _joined(pieces)


def read_stretches(dataset: Dataset, plan: Plan, chosen: Codes) -> Stretches:
    """Read the events and candidates of some stretches of a plan.

    Args:
        dataset: Where the rows lie.
        plan: From `plan_stretches`.
        chosen: (B,) places in the plan.

    Returns:
        The batch.
    """
    events = dataset.events
    first, start, tokens = plan.first_row[chosen], plan.start[chosen], plan.num_tokens[chosen]
    longest = max(1, int(tokens.max(initial=0)))
    place_BT = np.arange(longest)[None, :]
    valid_BT = place_BT < tokens[:, None]
    rows_BT = np.where(valid_BT, (first + start)[:, None] + place_BT, 0)
    number = plan.num_candidates[chosen]
    flat = _ranges(plan.candidate_offsets[chosen], number)
    row, prefix = plan.candidate_rows[flat], plan.candidate_prefix[flat]
    stretch = np.repeat(np.arange(len(chosen)), number)
    last_row = (first + start)[stretch] + prefix - 1
    has_last = (prefix + start[stretch]) > 0

    def tokens_of(name: str, padding: int) -> Codes:
        values = events[name].take(rows_BT.ravel()).reshape(rows_BT.shape)
        return np.where(valid_BT, values, padding).astype(np.int64)

    watch_share = _watch_share(
        events["watch_s"].take(rows_BT.ravel()), events["duration_s"].take(rows_BT.ravel())
    ).reshape(rows_BT.shape)
    shown = tokens_of("shown_at_ms", -1)
    session_gap_s = float(dataset.description["settings"]["session_gap_s"])
    return Stretches(
        viewer=plan.viewer[chosen],
        video=tokens_of("video", -1),
        feedback=tokens_of("feedback", 0),
        watch_share=np.where(valid_BT, watch_share, 0),
        context=_token_context(dataset, rows_BT, valid_BT, first, session_gap_s),
        time_s=np.where(shown >= 0, shown / 1000.0, np.nan),
        stretch=stretch,
        row=row,
        candidate_video=events["video"].take(row).astype(np.int64),
        candidate_context=_context(
            dataset,
            row,
            events["requested_at_ms"].take(row),
            np.where(has_last, last_row, 0),
            has_last,
            session_gap_s,
        ),
        candidate_time_s=events["requested_at_ms"].take(row) / 1000.0,
        prefix=prefix,
        counters=_counters(dataset, plan, chosen, stretch, row),
        day=events["day"].take(row).astype(np.int64),
        targets={
            name: events[name].take(row)
            for name in (*TARGET_COLUMNS, *(f"label_{name}" for name in dataset.objectives))
        },
    )


def batches_by_size(plan: Plan, order: Codes, tokens_at_most: int) -> Iterator[Codes]:
    """Group stretches of like length into batches of at most so many padded events.

    Args:
        plan: The stretches.
        order: (S,) an order to take them in; shuffled for training. Lengths are sorted only within
            spans of it, so that batches still mix viewers.
        tokens_at_most: Bound on stretches x longest stretch, candidates counted too; >= 1 stretch.

    Yields:
        (B,) places in the plan.
    """
    cost = plan.num_tokens + plan.num_candidates + 1
    span = 4096
    for begin in range(0, len(order), span):
        part = order[begin : begin + span]
        part = part[np.argsort(cost[part], kind="stable")]
        batch_start = 0
        for end in range(1, len(part) + 1):
            full = end == len(part) or (end + 1 - batch_start) * cost[part[end]] > tokens_at_most
            if full:
                yield part[batch_start:end]
                batch_start = end


_VIEW_COLUMNS = ("known_day", "day", "known_at_ms", "requested_at_ms")


@dataclass(frozen=True, slots=True)
class _Piece:
    viewer: int
    first_row: int
    start: int
    rows: Codes
    prefix: Codes
    view: View


def _joined(pieces: list[_Piece]) -> Plan:
    def column(values: list[int]) -> Codes:
        return np.array(values, dtype=np.int64)

    empty = np.empty(0, dtype=np.int64)
    return Plan(
        viewer=column([piece.viewer for piece in pieces]),
        first_row=column([piece.first_row for piece in pieces]),
        start=column([piece.start for piece in pieces]),
        num_tokens=column([int(piece.prefix.max()) for piece in pieces]),
        candidate_offsets=np.cumsum([0, *(len(piece.rows) for piece in pieces)], dtype=np.int64),
        candidate_rows=np.concatenate([empty, *(piece.rows for piece in pieces)]),
        candidate_prefix=np.concatenate([empty, *(piece.prefix for piece in pieces)]),
        view=tuple(piece.view for piece in pieces),
    )


def _span(column: Column, span: slice) -> NDArray[Any]:
    return column.take(np.arange(span.start, span.stop))


def _ranges(starts: Codes, lengths: Codes) -> Codes:
    """Concatenate `arange(start, start + length)` for each pair."""
    ends = np.cumsum(lengths)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + within)


def _watch_share(watch_s: Floats, duration_s: Floats) -> Codes:
    known = ~(np.isnan(watch_s) | np.isnan(duration_s))
    share = np.where(known, watch_s, 0) / np.where(known, duration_s, 1)
    return np.where(known, np.searchsorted(WATCH_SHARE_EDGES, share, side="right"), 0)


def _token_context(
    dataset: Dataset,
    rows_BT: Codes,
    valid_BT: NDArray[np.bool_],
    first: Codes,
    session_gap_s: float,
) -> Context:
    """Context of each event as its own request saw it, its predecessor being the last event."""
    rows = rows_BT.ravel()
    has_last = (rows_BT > first[:, None]).ravel() & valid_BT.ravel()
    shown = dataset.events["shown_at_ms"].take(rows)
    flat = _context(dataset, rows, shown, np.maximum(rows - 1, 0), has_last, session_gap_s)

    def shaped(values: Codes) -> Codes:
        return np.where(valid_BT, values.reshape(rows_BT.shape), 0)

    return Context(
        surface=shaped(flat.surface),
        hour=shaped(flat.hour),
        gap=shaped(flat.gap),
        place=shaped(flat.place),
        run=shaped(flat.run),
    )


def _context(
    dataset: Dataset,
    rows: Codes,
    at_ms: NDArray[np.int64],
    last_rows: Codes,
    has_last: NDArray[np.bool_],
    session_gap_s: float,
) -> Context:
    """Context of requests, given the row of the last visible event before each."""
    events = dataset.events
    last_shown = events["shown_at_ms"].take(last_rows)
    timed = has_last & (last_shown >= 0) & (at_ms >= 0)
    gap_s = np.where(timed, np.maximum(at_ms - last_shown, 0) / 1000.0, 0)
    gap = 1 + np.floor(np.log2(1 + gap_s)).astype(np.int64)
    same_session = timed & (gap_s <= session_gap_s)
    place = np.where(same_session, events["session_place"].take(last_rows) + 1, 0)
    run = np.where(same_session, events["glance_run"].take(last_rows), 0)
    return Context(
        surface=events["surface"].take(rows).astype(np.int64),
        hour=events["hour"].take(rows).astype(np.int64) + 1,
        gap=np.where(timed, np.minimum(gap, NUM_GAP_BUCKETS - 1), 0),
        place=np.minimum(place, NUM_PLACES - 1).astype(np.int64),
        run=np.minimum(run, NUM_RUNS - 1).astype(np.int64),
    )


def _counters(
    dataset: Dataset, plan: Plan, chosen: Codes, stretch: Codes, row: Codes
) -> NDArray[np.float32]:
    counter_row = dataset.events["counter_row"].take(row)
    live = np.array([plan.view[place].counter_form == "event" for place in chosen], dtype=bool)
    of_event = live[stretch]
    values = np.empty((len(row), len(dataset.counter_names)), dtype=np.float32)
    values[of_event] = dataset.counters_event.take(counter_row[of_event])
    values[~of_event] = dataset.counters_day.take(counter_row[~of_event])
    return values
