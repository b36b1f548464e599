"""What a model reads at once: stretches of viewers' events, and the candidates scored on them.

    Dataset, candidate rows  ->  plan_stretches  ->  Plan (which tokens, which candidates)
    Plan, some stretches     ->  read_stretches  ->  Stretches (B, T) events + (M,) candidates

- A stretch is encoded once; each of its candidates reads a prefix of it (`visibility`). It reaches
  back far enough that no candidate reads a shorter history than it had.
- Everything here is a code or a bucket of a code; which of them a model knows is its vocabulary's
  business.
- B stretches, T events (padded at the end), M candidates (flat, of all stretches in order).

Reads `dataset` and `visibility`; is read by training, evaluation and serving: a server lays out
what it holds of a viewer as `Rows`, so that there is one way from rows to inputs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.features.dataset import Dataset, Rows
from skipwise.features.view import View, Views

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
    views: Views
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
    view: View | Views,
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
    viewers, rank, first_of_rank = _ranks(dataset.events["viewer"].take(rows))
    views = view if isinstance(view, Views) else Views.same(view, len(viewers))
    prefix = _prefixes(dataset, rows, rank, first[viewers], views)
    begins = (np.arange(len(rows)) - first_of_rank[rank]) % candidates_at_most == 0
    offsets = np.append(np.flatnonzero(begins), len(rows))
    rank_of_stretch = rank[offsets[:-1]]
    nearest = np.minimum.reduceat(prefix, offsets[:-1]) if len(rows) else prefix
    start = np.maximum(nearest - reach, 0)
    prefix = prefix - np.repeat(start, np.diff(offsets))
    return Plan(
        viewer=viewers[rank_of_stretch],
        first_row=first[viewers][rank_of_stretch],
        start=start,
        num_tokens=np.maximum.reduceat(prefix, offsets[:-1]) if len(rows) else prefix,
        candidate_offsets=offsets,
        candidate_rows=rows,
        candidate_prefix=prefix,
        views=views.take(rank_of_stretch),
    )


def read_stretches(rows: Rows, plan: Plan, chosen: Codes) -> Stretches:
    """Read the events and candidates of some stretches of a plan.

    Args:
        rows: Where they lie.
        plan: From `plan_stretches`.
        chosen: (B,) places in the plan.

    Returns:
        The batch.
    """
    events = rows.events
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
    return Stretches(
        viewer=plan.viewer[chosen],
        video=tokens_of("video", -1),
        feedback=tokens_of("feedback", 0),
        watch_share=np.where(valid_BT, watch_share, 0),
        context=_token_context(rows, rows_BT, valid_BT, first),
        time_s=np.where(shown >= 0, shown / 1000.0, np.nan),
        stretch=stretch,
        row=row,
        candidate_video=events["video"].take(row).astype(np.int64),
        candidate_context=context_of(
            rows,
            row,
            events["requested_at_ms"].take(row),
            np.where(has_last, last_row, 0),
            has_last,
        ),
        candidate_time_s=events["requested_at_ms"].take(row) / 1000.0,
        prefix=prefix,
        counters=_counters(rows, plan, chosen, stretch, row),
        day=events["day"].take(row).astype(np.int64),
        targets={
            name: events[name].take(row)
            for name in (*TARGET_COLUMNS, *(f"label_{name}" for name in rows.objectives))
        },
    )


def batches_by_size(plan: Plan, order: Codes, tokens_at_most: int) -> Iterator[Codes]:
    """Group stretches of like length into batches of at most so many padded events.

    Those cut off from what came before them stand apart: all have events in front that are seen and
    not read, which then are encoded for none, and of their length most have as many candidates.

    Args:
        plan: The stretches.
        order: (S,) an order to take them in; shuffled for training. Lengths are sorted only within
            spans of it, so that batches still mix viewers.
        tokens_at_most: Bound on stretches x longest stretch, candidates counted too; >= 1 stretch.

    Yields:
        (B,) places in the plan.
    """
    cost, cut_off = plan.num_tokens + plan.num_candidates + 1, plan.start > 0
    span = 4096
    for begin in range(0, len(order), span):
        whole = order[begin : begin + span]
        for kind in (whole[~cut_off[whole]], whole[cut_off[whole]]):
            part = kind[np.argsort(cost[kind], kind="stable")]
            batch_start = 0
            for end in range(1, len(part) + 1):
                stretches = end + 1 - batch_start
                if end == len(part) or stretches * cost[part[end]] > tokens_at_most:
                    yield part[batch_start:end]
                    batch_start = end


_VIEW_COLUMNS = ("known_day", "day", "known_at_ms", "requested_at_ms")


EVENTS_TOGETHER = 131_072
"""Event rows whose visibility is worked out together: some 10 MB."""


def _ranks(viewer: NDArray[Any]) -> tuple[Codes, Codes, Codes]:
    """Number the different viewers of rows sorted by viewer.

    Returns:
        The viewers (R,), each row's number among them (N,), and each one's first row (R,).
    """
    begins = np.flatnonzero(np.diff(viewer, prepend=-1))
    return (
        viewer[begins].astype(np.int64),
        np.repeat(np.arange(len(begins)), np.diff(begins, append=len(viewer))),
        begins,
    )


def _prefixes(dataset: Dataset, rows: Codes, rank: Codes, first: Codes, views: Views) -> Codes:
    """Count the visible events of each selected row.

    Args:
        dataset: Where the rows lie.
        rows: (N,) event rows, rising.
        rank: (N,) which of the R viewers each belongs to.
        first: (R,) each viewer's first event row.
        views: (R,) how each sees.

    Returns:
        (N,) counted from the viewer's first row.
    """
    prefix = np.empty(len(rows), dtype=np.int64)
    last = rows[np.append(np.flatnonzero(np.diff(rank)), len(rows) - 1)] if len(rows) else rows
    lengths = last + 1 - first
    block = np.cumsum(lengths) // EVENTS_TOGETHER
    for chosen in np.split(np.arange(len(first)), np.flatnonzero(np.diff(block)) + 1):
        if not len(chosen):
            continue
        number = lengths[chosen]
        ends = np.cumsum(number)
        place = np.arange(ends[-1]) - np.repeat(ends - number, number)
        every = np.repeat(first[chosen], number) + place
        columns = {name: dataset.events[name].take(every) for name in _VIEW_COLUMNS}
        visible = views.take(np.repeat(chosen, number)).prefix(columns, place)
        mine = slice(*np.searchsorted(rank, [chosen[0], chosen[-1] + 1]))
        within = rows[mine] - first[rank[mine]] + (ends - number)[rank[mine] - chosen[0]]
        prefix[mine] = visible[within]
    return prefix


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
    source: Rows,
    rows_BT: Codes,
    valid_BT: NDArray[np.bool_],
    first: Codes,
) -> Context:
    """Context of each event as its own request saw it, its predecessor being the last event."""
    rows = rows_BT.ravel()
    has_last = (rows_BT > first[:, None]).ravel() & valid_BT.ravel()
    shown = source.events["shown_at_ms"].take(rows)
    flat = context_of(source, rows, shown, np.maximum(rows - 1, 0), has_last)

    def shaped(values: Codes) -> Codes:
        return np.where(valid_BT, values.reshape(rows_BT.shape), 0)

    return Context(
        surface=shaped(flat.surface),
        hour=shaped(flat.hour),
        gap=shaped(flat.gap),
        place=shaped(flat.place),
        run=shaped(flat.run),
    )


def context_of(
    source: Rows,
    rows: Codes,
    at_ms: NDArray[np.int64],
    last_rows: Codes,
    has_last: NDArray[np.bool_],
) -> Context:
    """Return the context of requests, given the last visible event before each.

    Args:
        source: Where the rows lie.
        rows: (N,) rows of the requests.
        at_ms: (N,) when they are made.
        last_rows: (N,) rows of those events; any where there is none.
        has_last: (N,) whether there is one.
    """
    events, session_gap_s = source.events, source.session_gap_s
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
    source: Rows, plan: Plan, chosen: Codes, stretch: Codes, row: Codes
) -> NDArray[np.float32]:
    counter_row = source.events["counter_row"].take(row)
    live = plan.views.live_counters[chosen]
    if live.all():
        return source.counters_event.take(counter_row)
    of_event = live[stretch]
    values = np.empty((len(row), len(source.counter_names)), dtype=np.float32)
    values[of_event] = source.counters_event.take(counter_row[of_event])
    values[~of_event] = source.counters_day.take(counter_row[~of_event])
    return values
