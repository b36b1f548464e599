"""Every form a value may be written in, and what is not of that form."""

import datetime as dt
import zoneinfo

import ibis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from skipwise.events.layout import Column, Form
from skipwise.events.parsing import local_day, parse


def read(
    form: Form, values: list[object], kind: str, connection: Backend, zone: str = "UTC"
) -> list[tuple[object, bool]]:
    table = ibis.memtable({"x": values}, schema={"x": kind})
    parsed = parse(table.x, Column(written="x", form=form), zone)
    found = connection.to_pyarrow(table.select(v=parsed.value, u=parsed.unreadable)).to_pydict()
    return list(zip(found["v"], found["u"], strict=True))


@pytest.mark.parametrize(
    ("form", "written", "value"),
    [
        ("ms", "1184", 1184),
        ("ms", "1184.4", 1184),
        ("ms", "1184.6", 1185),
        ("s", "4.2", 4200),
        ("epoch_s", "1650859200", 1_650_859_200_000),
        ("number", " 2.5", 2.5),
        ("whole", "3", 3),
        ("flag", "1", True),
        ("flag", "0.0", False),
        ("flag", "TRUE", True),
        ("flag", "no", False),
        ("random_flag", "1", "random"),
        ("random_flag", "0", "served"),
        ("policy", "random", "random"),
        ("day_yyyymmdd", "20220425", 19_107),
        ("day_iso", "2022-04-25", 19_107),
        ("iso", "1970-01-01 00:00:01.250", 1250),
        ("iso", "1970-01-01T08:00:01+08:00", 1000),
        ("iso", "1970-01-01T00:00:01Z", 1000),
        ("iso", "1970-01-02", 86_400_000),
        ("text", "nan", "nan"),
    ],
)
def test_a_form_reads_what_it_takes(
    form: Form, written: str, value: object, connection: Backend
) -> None:
    assert read(form, [written], "string", connection) == [(value, False)]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("ms", "abc"),
        ("ms", "1e300"),
        ("ms", "inf"),
        ("s", "4,2"),
        ("number", "one"),
        ("flag", "2"),
        ("random_flag", "-1"),
        ("policy", "Random walk"),
        ("day_yyyymmdd", "20220431"),
        ("day_yyyymmdd", "2022-04-25"),
        ("day_iso", "20220425x"),
        ("iso", "yesterday"),
        ("iso", "2022-04-25T25:00:00Z"),
    ],
)
def test_what_a_form_does_not_take_is_null_and_marked(
    form: Form, written: str, connection: Backend
) -> None:
    assert read(form, [written], "string", connection) == [(None, True)]


@pytest.mark.parametrize("form", ["ms", "s", "number", "flag", "iso", "epoch_ms", "policy"])
def test_an_empty_value_is_absent_and_not_unreadable(form: Form, connection: Backend) -> None:
    assert read(form, ["", "NaN", None], "string", connection) == [(None, False)] * 3


def test_native_types_mean_the_same_as_text(connection: Backend) -> None:
    assert read("ms", [5, None], "int16", connection) == [(5, False), (None, False)]
    assert read("ms", [5.4, float("nan")], "float64", connection) == [(5, False), (None, False)]
    assert read("flag", [True, None], "boolean", connection) == [(True, False), (None, False)]
    assert read("text", [5239], "int64", connection) == [("5239", False)]
    assert read("text", [5239.0, None], "float64", connection) == [("5239", False), (None, False)]
    noon = dt.datetime(1970, 1, 1, 12)
    assert read("iso", [noon], "timestamp", connection, "Asia/Shanghai") == [(4 * 3_600_000, False)]
    assert read("day_iso", [dt.date(1970, 1, 3)], "date", connection) == [(2, False)]


def test_lists_are_trimmed_sorted_and_told_once(connection: Backend) -> None:
    assert read("list", ["b, a,,b", "", None], "string", connection) == [
        (["a", "b"], False),
        ([], False),
        ([], False),
    ]
    assert read("list", [[2, 1, 2], []], "array<int64>", connection) == [
        (["1", "2"], False),
        ([], False),
    ]


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    at_ms=st.integers(946_684_800_000, 4_102_444_799_999),
    zone=st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York"]),
)
def test_local_days_and_times_agree_with_the_time_zone_database(
    at_ms: int, zone: str, connection: Backend
) -> None:
    moment = dt.datetime.fromtimestamp(at_ms // 1000, tz=zoneinfo.ZoneInfo(zone))
    day = connection.to_pyarrow(local_day(ibis.literal(at_ms), zone)).as_py()
    assert day == (moment.date() - dt.date(1970, 1, 1)).days
    assert read("iso", [moment.isoformat()], "string", connection, zone) == [
        (at_ms // 1000 * 1000, False)
    ]
