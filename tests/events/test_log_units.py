"""A log in other units than it should be is refused whole, and told what to change."""

from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend

from skipwise.errors import EventError
from skipwise.events.read import read_log
from tests.events.kuairand_logs import MIDDAY_MS, WriteLog, log_row

MAPPING = """
time_zone = "UTC"
[events]
viewer_id = "viewer"
video_id = "video"
shown_at = { column = "at", time = "TIME" }
watch = { column = "watched", unit = "WATCH" }
duration = { column = "length", unit = "LENGTH" }
"""


def read_mapped(
    folder: Path,
    connection: Backend,
    *,
    at: int = MIDDAY_MS,
    watched: float = 4000,
    length: float = 20_000,
    time: str = "epoch_ms",
    watch: str = "ms",
    duration: str = "ms",
) -> None:
    rows = [f"a,v,{at},{watched},{length}"] * 40
    (folder / "log.csv").write_text("\n".join(["viewer,video,at,watched,length", *rows]))
    text = MAPPING.replace("TIME", time).replace("WATCH", watch).replace("LENGTH", duration)
    (folder / "map.toml").write_text(text)
    read_log(folder / "log.csv", connection, mapping=folder / "map.toml")


def test_right_units_are_not_doubted(tmp_path: Path, connection: Backend) -> None:
    read_mapped(tmp_path, connection)
    read_mapped(tmp_path, connection, watched=4, watch="s", length=20, duration="s")
    read_mapped(tmp_path, connection, at=MIDDAY_MS // 1000, time="epoch_s")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"watch": "s"},
            r"watched .* median is 4000 s.* Set unit = \"ms\" for watch in .*toml",
        ),
        ({"duration": "s"}, r"length .* median is 20000 s.* Set unit = \"ms\" for duration"),
        ({"watched": 4}, r"watched .* median is 0.004 s.* Set unit = \"s\" for watch"),
        ({"length": 20}, r"length .* median is 0.02 s.* Set unit = \"s\" for duration"),
        (
            {"watched": 1200, "watch": "s"},
            r"watched .* median is 1200 s, must be in keeping with durations up to 20 s",
        ),
        ({"length": 2e10}, r"length .* Write the column anew, in seconds or milliseconds"),
        (
            {"at": MIDDAY_MS // 1000},
            r"at .* holds? seconds since 1970, read as milliseconds.*Set time = \"epoch_s\"",
        ),
        (
            {"time": "epoch_s"},
            r"at .* milliseconds since 1970, read as seconds.*Set time = \"epoch_ms\" for shown_at",
        ),
    ],
)
def test_units_mixed_up_are_refused_with_the_setting_to_change(
    tmp_path: Path, connection: Backend, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(EventError, match=message):
        read_mapped(tmp_path, connection, **wrong)  # type: ignore[arg-type]


def test_one_file_in_other_units_among_many_is_found(
    write_log: WriteLog, connection: Backend
) -> None:
    write_log([log_row()] * 500, name="log_standard_a.csv")
    folder = write_log([log_row(play_time_ms=4, duration_ms=20)] * 20, name="log_standard_b.csv")
    with pytest.raises(EventError, match=r"log_standard_b.csv seems .* mapping file with unit"):
        read_log(folder, connection)
