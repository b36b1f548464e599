"""Made-up rows for benchmarks of the engine: a dataset in memory, of any size.

    how many viewers, events, videos  ->  made_dataset  ->  Dataset, as `prepare` writes it
                                      ->  made_learner  ->  a Learner of the small preset on it

- The numbers mean nothing; their shapes, kinds and shares are those of a real log: 41 % glances,
  eight objectives, 88 counters, one topic per video.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipwise.features.dataset import Column, Dataset
from skipwise.features.vocabulary import Catalogue
from skipwise.labels.watch import LabelConfig
from skipwise.model.inputs import InputSizes
from skipwise.model.recommender import LabelCuts, Recommender
from skipwise.settings import settings_to_dict
from skipwise.training.learner import Learner
from skipwise.training.settings import TrainSettings, preset

OBJECTIVES = ("glance", "negative", "effective", "long", "finished", "like", "follow", "comment")
KEYS = ("video", "author", "topic", "viewer", "viewer_author", "viewer_topic", "surface", "place")
COUNTED = ("glance", "effective", "long", "like", "click")
COUNTERS = tuple(
    name
    for key in KEYS
    for name in (
        f"{key}.views",
        *(f"{key}.{what}{end}" for what in COUNTED for end in ("_known", "")),
    )
)
COUNTER_ROWS = 50_000
"""Different rows of counters; events share them, so that many events fit in memory."""
NUM_AUTHORS, NUM_TOPICS, NUM_SURFACES = 6000, 60, 12


def made_dataset(viewers: int, events_each: int, videos: int, seed: int = 0) -> Dataset:
    """Make a dataset of viewers who all have as many events, a minute or an hour apart."""
    random = np.random.default_rng(seed)
    number = viewers * events_each
    gap_ms = np.where(random.random(number) < 0.8, 40_000, 3_600_000)
    shown = 1_650_000_000_000 + np.cumsum(gap_ms.reshape(viewers, -1), 1).ravel()
    watch_s = random.exponential(9.0, number).astype(np.float32)
    duration_s = random.uniform(5, 90, number).astype(np.float32)
    glance = watch_s < np.minimum(3, duration_s)
    day = (shown // 86_400_000).astype(np.int32)
    columns: dict[str, NDArray[Any]] = {
        "viewer": np.repeat(np.arange(viewers, dtype=np.int32), events_each),
        "video": random.integers(0, videos, number).astype(np.int32),
        "day": day,
        "known_day": day,
        "shown_at_ms": shown,
        "requested_at_ms": shown,
        "known_at_ms": shown + 30_000,
        "watch_s": watch_s,
        "duration_s": duration_s,
        "surface": random.integers(1, NUM_SURFACES, number).astype(np.int16),
        "hour": (shown // 3_600_000 % 24).astype(np.int8),
        "feedback": np.where(glance, 2, random.integers(3, 7, number)).astype(np.int8),
        "glance_run": random.integers(0, 5, number).astype(np.int16),
        "session_place": random.integers(0, 20, number).astype(np.int16),
        "counter_row": np.arange(number) % COUNTER_ROWS,
        "watch_rank": random.random(number).astype(np.float32),
        "effective_above_s": random.uniform(4, 12, number).astype(np.float32),
        "finished_above_s": random.uniform(8, 20, number).astype(np.float32),
        "label_glance": glance.astype(np.int8),
    } | {
        f"label_{name}": (random.random(number) < share).astype(np.int8)
        for name, share in zip(OBJECTIVES[1:], (0.01, 0.5, 0.3, 0.4, 0.02, 0.01, 0.01), strict=True)
    }
    width = len(COUNTERS)
    few = random.poisson(3.0, (COUNTER_ROWS, width)).astype(np.float32)
    counters = Column([few], few.dtype, width)
    first = np.arange(viewers) * events_each
    return Dataset(
        path=Path(),
        description={
            "settings": {"session_gap_s": 1800.0, "labels": settings_to_dict(LabelConfig())},
            "counter_names": list(COUNTERS),
            "objectives": list(OBJECTIVES),
        },
        events={name: Column([values], values.dtype) for name, values in columns.items()},
        counters_day=counters,
        counters_event=counters,
        videos=pa.table({}),
        viewers=pa.table({"first_row": first, "num_rows": np.full(viewers, events_each)}),
        author_ids=(),
    )


def made_learner(
    dataset: Dataset, viewers: int, videos: int, settings: TrainSettings | None = None
) -> Learner:
    """Make a learner of the small preset, videos having one author and one topic each."""
    settings = settings or preset("small")
    labels = LabelConfig()
    sizes = InputSizes(
        videos=videos + 2,
        authors=NUM_AUTHORS,
        topics=NUM_TOPICS,
        surfaces=NUM_SURFACES,
        duration_buckets=labels.num_duration_buckets,
        video_categories=(),
        video_numbers=0,
        viewer_categories=(),
        viewer_numbers=0,
        counters=COUNTERS,
    )
    cuts = LabelCuts(
        glance_below_s=labels.glance_below_s,
        glance_needs_duration=labels.glance_needs_duration,
        long_from_s=labels.long_from_s,
        watch_at_most_s=labels.watch_at_most_s,
        duration_edges_s=labels.duration_edges_s,
    )
    model = Recommender(sizes, OBJECTIVES, cuts, settings.model)
    code = np.arange(videos)
    catalogue = Catalogue(
        video=code + 2,
        author=code % (NUM_AUTHORS - 2) + 2,
        author_code=code % (NUM_AUTHORS - 2) + 1,
        topics=(code % (NUM_TOPICS - 2) + 2)[:, None],
        duration_bucket=code % labels.num_duration_buckets,
        video_categories=np.zeros((videos, 0), dtype=np.int64),
        video_numbers=np.zeros((videos, 0), dtype=np.float32),
        viewer_categories=np.zeros((viewers, 0), dtype=np.int64),
        viewer_numbers=np.zeros((viewers, 0), dtype=np.float32),
        surface=np.arange(NUM_SURFACES),
    )
    return Learner(model, catalogue, dataset, settings)
