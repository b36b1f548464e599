"""From a trained run to scored rows: blind to what it reports, in every baseline and head too."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pytest
import torch
from benchmarks.quality_measures import asks
from ibis.backends.duckdb import Backend as Connection

from skipwise.errors import DatasetError
from skipwise.evaluation.evaluate import Measured, groups, score_run
from skipwise.evaluation.yardsticks import score_baselines
from skipwise.features.dataset import Dataset
from skipwise.features.visibility import Mode
from skipwise.training.checkpoint import TrainedRun
from tests.training.trained import short_run

pytestmark = pytest.mark.usefixtures("one_thread")

REPORTED_DAYS = 2
"""The last ones, on which `edited_dataset` ended otherwise."""
BY_QUANTILES = ("model.objectives.relation=messages", "model.objectives.watch=d2q")
BASELINES = ("video_rate", "viewer_surface_rate", "popularity", "fm", "lightgbm")


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    opened = ibis.duckdb.connect(threads=1)
    yield opened
    opened.disconnect()


@pytest.fixture(scope="module")
def runs(
    small_dataset: Dataset, edited_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]]:
    """The same training on two logs that differ in the outcomes of the reported days alone."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    first, second = (
        (
            short_run(
                dataset, folder / name, *BY_QUANTILES, last_day=dataset.days[1] - REPORTED_DAYS
            ),
            dataset,
        )
        for name, dataset in (("one", small_dataset), ("other", edited_dataset))
    )
    return first, second


def measured(
    pair: tuple[TrainedRun, Dataset], connection: Connection, mode: Mode, delay_s: float = 0.0
) -> Measured:
    run, dataset = pair
    last = dataset.days[1]
    return score_run(
        run,
        dataset,
        connection,
        days=(last - REPORTED_DAYS + 1, last),
        mode=mode,
        delay_s=delay_s,
        also={"double": lambda predictions, _: 2 * predictions.expected_watch_s},
    )


def test_outcomes_of_the_reported_days_change_no_window_prediction_and_no_baseline(
    runs: tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]], connection: Connection
) -> None:
    one, other = (measured(pair, connection, "window") for pair in runs)
    assert not np.array_equal(one.scored.labels["glance"], other.scored.labels["glance"])
    for name, logits in one.predicted.logits.items():
        np.testing.assert_array_equal(logits, other.predicted.logits[name])
    np.testing.assert_array_equal(one.predicted.expected_watch_s, other.predicted.expected_watch_s)
    first, second = (
        score_baselines(each.yardstick, BASELINES, each.scored) for each in (one, other)
    )
    for baseline in BASELINES:
        for name, chance in first[baseline].probabilities.items():
            np.testing.assert_array_equal(chance, second[baseline].probabilities[name])


def test_outcomes_of_the_reported_days_change_nothing_of_the_curve_in_window_mode(
    small_dataset: Dataset, edited_dataset: Dataset, connection: Connection, tmp_path: Path
) -> None:
    """The default heads; every cut, the expected watch and what else is asked of the curve."""
    last_day = small_dataset.days[1] - REPORTED_DAYS
    found = []
    for name, dataset in (("one", small_dataset), ("other", edited_dataset)):
        run = short_run(dataset, tmp_path / name, last_day=last_day)
        days = (last_day + 1, dataset.days[1])
        found.append(score_run(run, dataset, connection, days=days, mode="window", also=asks()))
    one, other = (each.predicted for each in found)
    assert (found[0].scored.watch_s != found[1].scored.watch_s).all()
    for name in one.also:
        np.testing.assert_array_equal(one.also[name], other.also[name])
    for name, logits in one.logits.items():
        np.testing.assert_array_equal(logits, other.logits[name])
    np.testing.assert_array_equal(one.expected_watch_s, other.expected_watch_s)


def test_in_daily_mode_the_first_reported_day_is_blind_and_the_second_sees_it(
    runs: tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]], connection: Connection
) -> None:
    one, other = (measured(pair, connection, "daily") for pair in runs)
    dataset = runs[0][1]
    day = dataset.events["day"].take(one.predicted.row)
    same = one.predicted.logits["glance"] == other.predicted.logits["glance"]
    assert same[day == dataset.days[1] - 1].all()
    assert not same[day == dataset.days[1]].all()


def test_a_later_outcome_is_another_state(
    runs: tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]], connection: Connection
) -> None:
    live = measured(runs[0], connection, "progressive")
    late = measured(runs[0], connection, "progressive", delay_s=86_400.0)
    assert not np.array_equal(live.predicted.logits["glance"], late.predicted.logits["glance"])


def test_viewer_days_are_no_groups_where_the_state_moves_within_them(
    runs: tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]], connection: Connection
) -> None:
    """The GAUC trap: progressive rows are ranked within requests, or not at all."""
    dataset = runs[0][1]
    live, nightly = (measured(runs[0], connection, mode) for mode in ("progressive", "daily"))
    row = live.predicted.row
    np.testing.assert_array_equal(live.scored.group, dataset.events["request"].take(row))
    viewer_day = groups(dataset, row, "daily")
    np.testing.assert_array_equal(nightly.scored.group, viewer_day)
    with pytest.raises(DatasetError, match="rows scored with different states"):
        dataclasses.replace(live.scored, group=viewer_day)
    dataclasses.replace(live.scored, group=np.full(len(row), -1))


def test_what_else_is_asked_stands_beside_each_row(
    runs: tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]], connection: Connection
) -> None:
    found = measured(runs[0], connection, "daily").predicted
    np.testing.assert_allclose(found.also["double"], 2 * found.expected_watch_s, rtol=1e-6)


def test_a_fitted_head_knows_the_training_window_alone(
    runs: tuple[tuple[TrainedRun, Dataset], tuple[TrainedRun, Dataset]],
) -> None:
    one, other = (run.model.predictor.watch for run, _ in runs)
    assert one is not None
    assert other is not None
    quantiles = dict(one.named_buffers())["quantile_s"]
    torch.testing.assert_close(quantiles, dict(other.named_buffers())["quantile_s"], rtol=0, atol=0)
    watch_s = runs[0][1].events["watch_s"].all()
    assert float(quantiles[:, -1].max()) > float(np.nanquantile(watch_s, 0.9))
