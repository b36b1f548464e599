"""The lottery of a feed: whom it may draw, how often, and what it says of that."""

import dataclasses

import numpy as np
from scipy.stats import chisquare

from skipwise.features.dataset import Dataset
from skipwise.serving.pipeline import FEED, Situation, explore
from skipwise.serving.state.sqlite import SqliteStore
from skipwise.serving.wire import FeedRequest
from skipwise.training.checkpoint import TrainedRun
from tests.serving.test_retrieval import serving
from tests.serving.test_same_numbers import midnight_before_end

ROUNDS, K = 4000, 4


def diversified(run: TrainedRun, dataset: Dataset, store: SqliteStore) -> Situation:
    engine = serving(run, dataset, store, midnight_before_end(dataset, 1))
    engine.catch_up()
    now = engine.situation(FeedRequest(viewer_id="u1", k=K), K, [], cheap=True)
    for step in FEED[: FEED.index(explore)]:
        step(now)
    return now


def test_any_candidate_that_is_left_is_as_likely_and_says_so(
    small_run: TrainedRun, small_dataset: Dataset, sqlite_store: SqliteStore
) -> None:
    start = diversified(small_run, small_dataset, sqlite_store)
    number = len(start.candidates)
    assert number > 2 * K, "more candidates than places"
    settings = dataclasses.replace(start.settings, explore_share=0.5)
    drawn_first: list[str] = []
    lotteries = np.zeros(K)
    for seed in range(ROUNDS):
        now = dataclasses.replace(
            start, settings=settings, random=np.random.default_rng(seed), policy=[], propensity=[]
        )
        explore(now)
        assert len(set(now.video_ids)) == K
        lotteries += [policy == "random" for policy in now.policy]
        told = [1 / (number - place) for place in range(K)]
        for policy, propensity, of_place in zip(now.policy, now.propensity, told, strict=True):
            assert propensity == (of_place if policy == "random" else 1.0)
        if now.policy[0] == "random":
            drawn_first.append(now.video_ids[0])
        elif "random" not in now.policy:
            assert now.video_ids == start.video_ids[:K]
    assert np.all(np.abs(lotteries / ROUNDS - 0.5) < 4 * 0.5 / ROUNDS**0.5)
    counts = [drawn_first.count(video) for video in start.video_ids]
    assert sum(counts) == len(drawn_first), "nothing but candidates"
    assert chisquare(counts).pvalue > 1e-4
