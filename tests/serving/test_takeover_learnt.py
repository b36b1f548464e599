"""Models that were really trained: one on shuffled outcomes is found out by what viewers skip."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import mannwhitneyu

from skipwise.features.dataset import Dataset
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings
from skipwise.training.checkpoint import TrainedRun
from tests.serving.published import publish, told, until
from tests.serving.running import Command
from tests.serving.test_takeover import SOON, watching
from tests.training.trained import predictions, short_run
from tests.worlds import prepared

WORLD = WorldSettings(
    viewers=80, videos=160, authors=40, topics=6, days=5, views_per_viewer_day=12.0, seed=9
)


def skipped(video_id: str) -> float:
    """Every other video is left at once by nine in ten, the others by one in ten."""
    return 0.9 if int(video_id[1:]) % 2 else 0.1


def dataset(folder: Path, *, shuffled: bool) -> Dataset:
    """A log in which that is so, or in which the same outcomes are dealt to anyone."""
    rng = np.random.default_rng(3)
    simulate(folder / "log", WORLD)
    events = pq.read_table(folder / "log" / "events.parquet")
    left = rng.random(events.num_rows) < [
        skipped(video) for video in events["video_id"].to_pylist()
    ]
    if shuffled:
        left = rng.permutation(left)
    place = events.column_names.index("watch_ms")
    watch_ms = pa.array(np.where(left, 500, 20_000))
    pq.write_table(
        events.set_column(place, "watch_ms", watch_ms), folder / "log" / "events.parquet"
    )
    return prepared(folder / "log", folder / "DATASET")


def auc(run: TrainedRun, rows: Dataset) -> float:
    """Of glances, by hand."""
    predicted = predictions(run, rows)
    label, logit = rows.events["label_glance"].take(predicted.row), predicted.logits["glance"]
    hits, rest = logit[label == 1], logit[label == 0]
    return float(mannwhitneyu(hits, rest).statistic / (hits.size * rest.size))


@pytest.mark.slow
def test_a_model_of_shuffled_labels_is_rolled_back_and_one_that_learnt_is_kept(
    tmp_path: Path,
) -> None:
    real, mixed = (dataset(tmp_path / str(at), shuffled=bool(at)) for at in (0, 1))
    budget = ("passes_at_most=6", "optimizer.learning_rate=0.02")
    runs = [
        short_run(rows, tmp_path / name, *budget, f"seed={seed}")
        for name, rows, seed in (("first", real, 0), ("mixed", mixed, 0), ("other", real, 1))
    ]
    assert [auc(run, real) > 0.8 for run in runs] == [True, False, True]
    save_score_weights(tmp_path / "skips.json", ScoreWeights(glance_power=5.0))
    words = ("--follow", str(tmp_path / "live"), "--weights", str(tmp_path / "skips.json"), *SOON)
    by_skips = "follow.calibration_worse_by=1.0"
    command = Command(runs[0].path, real.path, f"sqlite:{tmp_path / 'state.db'}", *words, by_skips)
    command.start()
    try:
        with watching(command, lambda _, video_id: skipped(video_id)):
            publish(tmp_path / "live", "model-00001", runs[1])
            until(lambda: ("rolled back", "model-00001") in told(command.client))
            why = command.client.ask("GET", "/v1/models")["told"][-1]["why"]
            assert why.startswith("skip rate 0.")
            publish(tmp_path / "live", "model-00002", runs[2])
            until(lambda: ("kept", "model-00002") in told(command.client))
    finally:
        command.stop()
