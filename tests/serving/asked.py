"""Rows of a dataset as the requests a server would have been asked."""

from dataclasses import dataclass

import numpy as np

from skipwise.features.stretches import Context, Stretches, read_stretches
from skipwise.features.view import View
from skipwise.model.request import Array, Candidates, History, Request
from skipwise.model.video_vectors import embed_all
from tests.models import Untrained


@dataclass(frozen=True)
class Asked:
    """Candidates of one viewer that see the same past, and the event rows they are."""

    history: History
    request: Request
    candidates: Candidates
    row: Array


def asked_one_by_one(model: Untrained, view: View, every: int = 1) -> list[Asked]:
    """Turn every so-many-th timed row of a dataset into a request of its own."""
    plan = model.plan(view, candidates_at_most=1)
    vectors = embed_all(model.model, model.catalogue)
    return [
        _asked(model, read_stretches(model.dataset, plan, np.array([place])), vectors)
        for place in range(0, len(plan), every)
    ]


def _asked(model: Untrained, read: Stretches, vectors: Array) -> Asked:
    catalogue, visible = model.catalogue, int(read.prefix[0])
    past, shown, viewer = read.video[0, :visible], read.candidate_video, int(read.viewer[0])
    return Asked(
        history=History(
            vectors=vectors[past],
            video=past,
            author=catalogue.author_code[past],
            topics=catalogue.topics[past],
            feedback=read.feedback[0, :visible],
            watch_share=read.watch_share[0, :visible],
            context=_columns(read.context, catalogue.surface)[0, :visible],
            time_s=read.time_s[0, :visible],
        ),
        request=Request(
            context=_columns(read.candidate_context, catalogue.surface)[0],
            time_s=float(read.candidate_time_s[0]),
            viewer_categories=catalogue.viewer_categories[viewer],
            viewer_numbers=catalogue.viewer_numbers[viewer],
        ),
        candidates=Candidates(
            vectors=vectors[shown],
            video=shown,
            author=catalogue.author_code[shown],
            topics=catalogue.topics[shown],
            counters=read.counters,
            duration_s=read.targets["duration_s"],
            effective_above_s=read.targets["effective_above_s"],
            finished_above_s=read.targets["finished_above_s"],
        ),
        row=read.row,
    )


def _columns(context: Context, surface: Array) -> Array:
    return np.stack(
        [surface[context.surface], context.hour, context.gap, context.place, context.run], axis=-1
    )
