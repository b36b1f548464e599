"""On real rows: what is prepared is aligned, and one at a time gives the same counters."""

import dataclasses
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from skipwise.events.read import read_log
from skipwise.features.counter_names import COUNTABLE, CounterConfig
from skipwise.features.dataset import Dataset
from skipwise.features.frozen import counters_frozen_at
from skipwise.features.live import LiveCounters, Shown
from skipwise.features.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.kuairand]

ONE_VIEWER_IN = 13
"""Of so many viewers one keeps its history, and asks; all their timed rows are learnt."""


@pytest.fixture(scope="module")
def dataset(kuairand_pure: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    connection = ibis.duckdb.connect(threads=1)
    log = read_log(kuairand_pure, connection, source="kuairand")
    chosen = log.events.viewer_id.cast("int64") % ONE_VIEWER_IN == 0
    events = log.events.filter(log.events.shown_at_ms.notnull() | chosen)
    out = tmp_path_factory.mktemp("real") / "DATASET"
    prepare(dataclasses.replace(log, events=events), connection, out)
    return Dataset.open(out)


def test_every_row_is_there_and_in_place(dataset: Dataset) -> None:
    columns = {name: column.all() for name, column in dataset.events.items()}
    timed = columns["shown_at_ms"] >= 0
    assert int(timed.sum()) == 154_071
    assert len(dataset.counters_day) == len(dataset.counters_event) == 154_071
    assert (columns["counter_row"][timed] == np.arange(154_071)).all()
    order = np.lexsort((columns["source_order"], columns["shown_at_ms"], columns["viewer"]))
    assert (order == np.arange(len(order))).all()
    first, number = dataset.viewer_rows()
    assert number.sum() == len(timed)
    for viewer in (0, 77, 1234):
        rows = slice(first[viewer], first[viewer] + number[viewer])
        assert (columns["viewer"][rows] == viewer).all()
    assert (columns["known_at_ms"][timed] > columns["requested_at_ms"][timed]).all()
    assert (columns["known_day"] >= columns["day"]).all()
    assert dataset.description["first_day"] == "2022-04-25"
    assert dataset.description["last_day"] == "2022-05-03"
    assert np.mean(columns["label_glance"][columns["label_glance"] >= 0]) == pytest.approx(
        0.41, abs=0.02
    )


def test_the_files_open_as_plain_arrow(dataset: Dataset) -> None:
    for file in dataset.path.glob("*.arrow"):
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        table.validate(full=True)
        assert all(column.null_count == 0 for column in table.columns)


@pytest.mark.parametrize("form", ["event", "day"])
def test_one_at_a_time_gives_the_counters_of_the_bulk(dataset: Dataset, form: str) -> None:
    """All outcomes are learnt in the order they became known; some viewers ask in between."""
    columns = {name: column.all() for name, column in dataset.events.items()}
    showings = _showings(dataset, columns)
    zone_ms = 8 * 3_600_000
    day_ms = 24 * 3_600_000
    timed = columns["shown_at_ms"] >= 0
    known_clock_day = np.where(
        timed, (columns["known_at_ms"] + zone_ms) // day_ms, columns["known_day"]
    )
    if form == "event":
        usable_from, asked_at = columns["known_at_ms"], columns["requested_at_ms"]
        ask_clock_day = (columns["requested_at_ms"] + zone_ms) // day_ms
        bulk = dataset.counters_event.all()
    else:
        usable_from, asked_at = columns["known_day"] + 1, columns["day"]
        ask_clock_day = columns["day"]
        bulk = dataset.counters_day.all()
    chosen = np.array(
        [int(name) % ONE_VIEWER_IN == 0 for name in dataset.viewers["viewer_id"].to_pylist()]
    )
    asking = np.flatnonzero(timed & chosen[columns["viewer"]])
    counters = LiveCounters(CounterConfig())
    labels = np.stack([columns[f"label_{name}"] for name in COUNTABLE], axis=1).tolist()
    verdicts = {-1: None, 0: False, 1: True}
    outcomes = iter(np.argsort(usable_from, kind="stable").tolist())
    ends = usable_from.tolist()
    upcoming = next(outcomes, None)
    live = []
    for ask in asking[np.argsort(asked_at[asking], kind="stable")].tolist():
        while upcoming is not None and ends[upcoming] <= asked_at[ask]:
            told = dict(
                zip(COUNTABLE, (verdicts[label] for label in labels[upcoming]), strict=True)
            )
            counters.learn(showings[upcoming], told, int(known_clock_day[upcoming]))
            upcoming = next(outcomes, None)
        live.append(
            (columns["counter_row"][ask], counters.ask(showings[ask], int(ask_clock_day[ask])))
        )
    assert len(live) > 10_000
    found = np.stack([counters for _, counters in live])
    np.testing.assert_allclose(found, bulk[[row for row, _ in live]], rtol=1e-6)
    assert (found > 0).any(axis=0).mean() > 0.9, "almost every counter has something to say"


def test_a_frozen_day_is_the_day_form_of_that_day(dataset: Dataset) -> None:
    """With each row's own day it repeats the file; with one day it never sees later outcomes."""
    connection = ibis.duckdb.connect(threads=1)
    timed = np.flatnonzero(dataset.events["shown_at_ms"].all() >= 0)[::7]
    day = dataset.events["day"].take(timed).astype(np.int64)
    own = counters_frozen_at(dataset, timed, day, connection)
    np.testing.assert_allclose(own, dataset.counters_day.all()[::7], rtol=1e-6)
    first_of_test = dataset.days[1] - 1
    on_that_day, later = timed[day == first_of_test], timed[day > first_of_test]
    rows = np.concatenate([on_that_day, later])
    frozen = counters_frozen_at(dataset, rows, first_of_test, connection)
    np.testing.assert_allclose(frozen[: len(on_that_day)], own[day == first_of_test], rtol=1e-6)
    views = frozen[len(on_that_day) :, 0], own[day > first_of_test][:, 0]
    assert views[0].mean() != pytest.approx(views[1].mean(), rel=1e-3)


def _showings(dataset: Dataset, columns: dict[str, NDArray[np.generic]]) -> list[Shown]:
    author = dataset.videos["author"].to_pylist()
    topics = [tuple(codes) for codes in dataset.videos["topics"].to_pylist()]
    return [
        Shown(
            viewer=viewer, video=video, author=author[video], topics=topics[video], surface=surface
        )
        for viewer, video, surface in zip(
            *(columns[name].tolist() for name in ("viewer", "video", "surface")), strict=True
        )
    ]
