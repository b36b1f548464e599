"""KuaiRand's rows, labelled in bulk and one by one, and against the log's own verdicts."""

from pathlib import Path

import numpy as np
import pytest

from skipwise.labels.bulk import label_events
from skipwise.labels.watch import LabelConfig
from tests.labels.compared import assert_bulk_equals_live
from tests.labels.label_logs import Row, load_real_log, quiet_connection, read_rows

pytestmark = pytest.mark.kuairand


@pytest.fixture(scope="module")
def real_rows(kuairand_pure: Path) -> list[Row]:
    connection = quiet_connection()
    return read_rows(
        connection, label_events(load_real_log(connection, kuairand_pure), LabelConfig())
    )


def test_real_rows_are_labelled_alike_in_bulk_and_one_by_one(real_rows: list[Row]) -> None:
    """Every fiftieth row, and every row whose viewer had met the video before."""
    assert len(real_rows) == 154_071
    seen: set[tuple[str, str]] = set()
    asked = set(range(0, len(real_rows), 50))
    for place, labelled in enumerate(real_rows):
        pair = (labelled["viewer_id"], labelled["video_id"])
        if pair in seen:
            asked.add(place)
        seen.add(pair)
    assert_bulk_equals_live(real_rows, LabelConfig(), asked)


def test_the_rules_repeat_kuairands_own_long_view(kuairand_pure: Path) -> None:
    """Without its verdict, long agrees with it on 99.76 % of rows, and glances are none of them."""
    connection = quiet_connection()
    events = load_real_log(connection, kuairand_pure).drop("long_viewed")
    verdicts = load_real_log(connection, kuairand_pure).select("source_order", "long_viewed")
    labelled_events = label_events(events, LabelConfig())
    rows = read_rows(
        connection, labelled_events.select("source_order", "label_long", "label_glance")
    )
    truth = [said["long_viewed"] for said in read_rows(connection, verdicts)]
    long_agrees = [
        labelled["label_long"] == said
        for labelled, said in zip(rows, truth, strict=True)
        if labelled["label_long"] >= 0
    ]
    glance_agrees = [
        not said
        for labelled, said in zip(rows, truth, strict=True)
        if labelled["label_glance"] == 1
    ]
    assert len(long_agrees) == 151_586
    assert 0.997 <= np.mean(long_agrees) < 1
    assert np.mean(glance_agrees) >= 0.997


def test_real_views_are_effective_about_half_the_time(real_rows: list[Row]) -> None:
    known = [labelled for labelled in real_rows if labelled["label_effective"] >= 0]
    assert np.mean([labelled["label_effective"] for labelled in known]) == pytest.approx(
        0.5, abs=0.05
    )
    assert np.mean([labelled["label_finished"] for labelled in known]) == pytest.approx(
        0.4, abs=0.05
    )
    ranks = [labelled["watch_rank"] for labelled in known]
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.02)
