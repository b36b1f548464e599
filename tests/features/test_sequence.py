"""Sessions end at long pauses, runs of glances at anything else."""

from collections.abc import Sequence

import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend as Connection

from skipwise.features.sequence import SEQUENCE_ORDER, add_sequence
from tests.features.small_logs import table_of

GAP_S = 60.0


@pytest.fixture(scope="module")
def connection() -> Connection:
    return ibis.duckdb.connect(threads=1)


def sequence(
    connection: Connection, viewer: list[int], shown_s: Sequence[float], glance: list[int]
) -> tuple[list[int], list[int]]:
    """Return session places and runs, in the order given."""
    rows = pa.table(
        {
            "viewer": pa.array(viewer, pa.int32()),
            "shown_at_ms": pa.array(
                [round(s * 1000) if s >= 0 else -1 for s in shown_s], pa.int64()
            ),
            "source_order": pa.array(range(len(viewer)), pa.int64()),
            "label_glance": pa.array(glance, pa.int8()),
        }
    )
    found = add_sequence(table_of(connection, rows), GAP_S).order_by("source_order").to_pyarrow()
    assert found.column_names == [*rows.column_names, "session_place", "glance_run"]
    assert found["session_place"].type == found["glance_run"].type == pa.int16()
    return found["session_place"].to_pylist(), found["glance_run"].to_pylist()


def test_places_and_runs_of_one_viewer_as_worked_by_hand(connection: Connection) -> None:
    shown_s = [0, 10, 20, 30, 40, 101, 102]
    glance = [1, 1, 0, 1, -1, 1, 1]
    places, runs = sequence(connection, [0] * 7, shown_s, glance)
    assert places == [0, 1, 2, 3, 4, 0, 1], "101 - 40 = 61 s is a pause"
    assert runs == [1, 2, 0, 1, 0, 1, 2]


def test_a_pause_of_exactly_the_gap_is_no_pause(connection: Connection) -> None:
    assert sequence(connection, [0, 0], [0, 60], [1, 1]) == ([0, 1], [1, 2])
    assert sequence(connection, [0, 0], [0, 60.001], [1, 1]) == ([0, 0], [1, 1])


def test_viewers_do_not_share_a_session(connection: Connection) -> None:
    assert sequence(connection, [0, 1, 0], [0, 1, 2], [1, 1, 1]) == ([0, 0, 1], [1, 1, 2])


def test_untimed_events_are_in_no_session(connection: Connection) -> None:
    assert sequence(connection, [0, 0, 0], [-1, -1, 5], [1, 1, 1]) == ([0, 0, 0], [0, 0, 1])


def test_events_of_one_instant_stand_in_the_order_of_the_source(connection: Connection) -> None:
    assert SEQUENCE_ORDER == ("viewer", "shown_at_ms", "source_order")
    assert sequence(connection, [0] * 3, [5, 5, 5], [1, 0, 1]) == ([0, 1, 2], [1, 0, 1])


def test_a_thousand_random_events_equal_a_plain_loop(connection: Connection) -> None:
    generator = np.random.default_rng(7)
    viewer = generator.integers(0, 9, 1000).tolist()
    shown_s = generator.integers(-200, 4000, 1000).clip(-1).astype(float).tolist()
    glance = generator.choice([-1, 0, 1, 1, 1], 1000).tolist()
    places, runs = [0] * 1000, [0] * 1000
    last: dict[int, tuple[float, int, int]] = {}
    for row in sorted(range(1000), key=lambda row: (shown_s[row], row)):
        if shown_s[row] < 0:
            continue
        before_s, place, run = last.get(viewer[row], (-1e9, 0, 0))
        if shown_s[row] - before_s > GAP_S:
            place, run = -1, 0
        places[row], runs[row] = place + 1, run + 1 if glance[row] == 1 else 0
        last[viewer[row]] = shown_s[row], places[row], runs[row]
    assert sequence(connection, viewer, shown_s, glance) == (places, runs)
    assert max(runs) > 3
