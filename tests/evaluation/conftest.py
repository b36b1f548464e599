"""Scored rows for the tables: small, with a planted signal, a rare label and gaps."""

from collections.abc import Callable

import numpy as np
import pytest

from skipwise.evaluation.scored import Scored

ScoredMaker = Callable[..., Scored]


def make_scored(*, noise: float = 1.0, num_viewers: int = 120, seed: int = 0) -> Scored:
    """Score 10 rows of each viewer, two groups of 5; more noise is a worse scorer."""
    random = np.random.default_rng(seed)
    num_rows = num_viewers * 10
    appeal = random.normal(size=num_rows)
    seen = appeal + noise * np.random.default_rng(seed + 1).normal(size=num_rows)
    glanced = (random.random(num_rows) < 1 / (1 + np.exp(appeal))).astype(np.int8)
    effective = np.where(glanced == 1, 0, random.random(num_rows) < 0.7).astype(np.int8)
    effective[20:27] = -1
    watch_s = random.exponential(np.exp(appeal) * 4)
    watch_s[::50] = np.nan
    viewer = np.repeat(np.arange(num_viewers), 10)
    return Scored(
        viewer=viewer + 1000,
        visible=viewer % 7,
        group=np.where(np.arange(num_rows) < 20, -1, np.arange(num_rows) // 5 - 4),
        labels={"glance": glanced, "effective": effective, "like": np.zeros(num_rows, np.int8)},
        probabilities={
            "glance": 1 / (1 + np.exp(seen)),
            "effective": 0.6 / (1 + np.exp(-seen)),
            "like": np.full(num_rows, 0.01),
        },
        watch_s=watch_s,
        expected_watch_s=np.exp(seen) * 4,
        duration_s=np.full(num_rows, 60.0),
        slices={"viewer": np.where(viewer < 15, "new", "known"), "surface": viewer % 2},
    )


@pytest.fixture(scope="session")
def scored_maker() -> ScoredMaker:
    return make_scored
