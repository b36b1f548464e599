"""Any log is read through a mapping file; a mistake in one is refused with what to write."""

import re
from pathlib import Path

import duckdb
import pytest
from ibis.backends.duckdb import Backend

from skipwise.errors import EventError
from skipwise.events.read import EventLog, read_log

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "data.md"

MAPPING = """
time_zone = "UTC"
[events]
file = "log.csv"
viewer_id = "who"
video_id = "what"
shown_at = { column = "at", time = "epoch_s" }
watch = { column = "seen", unit = "s" }
"""
LOG = "who,what,at,seen\na,v,1700000000,4.5\n"


def write(folder: Path, mapping: str, log: str = LOG) -> Path:
    (folder / "log.csv").write_text(log)
    (folder / "map.toml").write_text(mapping)
    return folder / "map.toml"


def events_of(log: EventLog, connection: Backend) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = connection.to_pyarrow(
        log.events.order_by("source_order")
    ).to_pylist()
    return rows


def documented(folder: Path, tags: str = "cats|music") -> Path:
    """Write the documentation's own example, its first clip with these tags; returns its map."""
    text = DOCUMENTATION.read_text()
    plays, clips = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (mapping,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert "cats|music" in clips
    (folder / "plays.csv").write_text(plays)
    (folder / "clips.csv").write_text(clips.replace("cats|music", tags))
    (folder / "map.toml").write_text(mapping)
    return folder / "map.toml"


def test_blanks_around_topics_are_no_part_of_them(tmp_path: Path, connection: Backend) -> None:
    mapping = documented(tmp_path, " two words || cats |cats")
    log = read_log(tmp_path, connection, mapping=mapping)
    videos = connection.to_pyarrow(log.videos).to_pylist()
    assert {row["video_id"]: row["topics"] for row in videos} == {
        "c1": ["cats", "two words"],
        "c2": [],
    }


def test_the_example_in_the_documentation_is_read(tmp_path: Path, connection: Backend) -> None:
    log = read_log(tmp_path, connection, mapping=documented(tmp_path))
    rows = events_of(log, connection)
    assert [row["shown_at_ms"] for row in rows] == [
        1_714_581_000_000,  # 18:30 in Berlin is 16:30 UTC in May
        1_714_581_009_000,
        1_714_600_799_000,  # 21:59:59 UTC
    ]
    assert [row["day"] for row in rows] == [19_844] * 3  # 2024-05-01
    assert [row["watch_ms"] for row in rows] == [4200, 31_500, 800]
    assert [row["duration_ms"] for row in rows] == [31_000] * 3
    assert [row["liked"] for row in rows] == [False, True, False]
    assert [row["followed"] for row in rows] == [None] * 3
    assert [row["surface"] for row in rows] == ["home", "home", "search"]
    assert [row["policy"] for row in rows] == ["served"] * 3
    assert sorted(
        (row["video_id"], row["author_id"], row["topics"], row["language"])
        for row in connection.to_pyarrow(log.videos).to_pylist()
    ) == [("c1", "m1", ["cats", "music"], "de"), ("c2", "m2", [], "en")]
    assert log.description.name == "my-app"
    assert (log.refusals, log.num_rows_read) == ((), 3)


def test_a_mapping_may_say_the_rule_of_a_glance(tmp_path: Path, connection: Backend) -> None:
    usual = read_log(tmp_path, connection, mapping=write(tmp_path, MAPPING))
    assert usual.description.glance_needs_duration is True
    mapping = write(tmp_path, f"glance_needs_duration = false\n{MAPPING}")
    told = read_log(tmp_path, connection, mapping=mapping)
    assert told.description.glance_needs_duration is False
    mapping = write(tmp_path, f'glance_needs_duration = "false"\n{MAPPING}')
    with pytest.raises(EventError, match="is 'false', must be true or false"):
        read_log(tmp_path, connection, mapping=mapping)


def test_a_duckdb_table_is_read_and_left_alone(tmp_path: Path, connection: Backend) -> None:
    database = tmp_path / "app.duckdb"
    with duckdb.connect(str(database)) as writer:
        writer.execute(
            "CREATE TABLE plays AS SELECT 'a' AS who, 'v' || i AS what, 4.5 AS seen, "
            "TIMESTAMP '2024-01-15 10:00:00' AS at, i = 1 AS liked FROM range(3) t(i)"
        )
    before = database.read_bytes()
    mapping = write(
        tmp_path,
        MAPPING.replace('file = "log.csv"', 'table = "plays"\nliked = "liked"').replace(
            "epoch_s", "iso"
        ),
    )
    rows = events_of(read_log(database, connection, mapping=mapping), connection)
    assert [row["video_id"] for row in rows] == ["v0", "v1", "v2"]
    assert {row["shown_at_ms"] for row in rows} == {1_705_312_800_000}  # 10:00 UTC
    assert [row["liked"] for row in rows] == [False, True, False]
    assert database.read_bytes() == before
    wrong = write(tmp_path, mapping.read_text().replace('"plays"', '"play"'))
    with pytest.raises(EventError, match=r"has no table 'play'.*Did you mean 'plays'"):
        read_log(database, connection, mapping=wrong)


def test_parquet_files_of_a_pattern_are_read_in_order(tmp_path: Path, connection: Backend) -> None:
    for part in range(3):
        duckdb.sql(
            f"SELECT 'a' AS who, {part}.0::DOUBLE AS what, 1700000000 AS at, 4.5 AS seen"
        ).write_parquet(str(tmp_path / f"part-{part}.parquet"))
    mapping = write(tmp_path, MAPPING.replace("log.csv", "part-*.parquet"))
    rows = events_of(read_log(tmp_path, connection, mapping=mapping), connection)
    assert [row["video_id"] for row in rows] == ["0", "1", "2"]  # ids that went through a float
    assert [row["source_order"] for row in rows] == [0, 1, 2]


def test_viewers_with_extras_and_constants_are_read(tmp_path: Path, connection: Backend) -> None:
    (tmp_path / "people.csv").write_text("who,age,land\na,31,de\nb,,fr\n")
    more = """
surface = { constant = "feed" }
disliked = { constant = false }
propensity = { constant = 0.5 }
[viewers]
file = "people.csv"
viewer_id = "who"
[viewers.extras]
age = "numeric"
country = { column = "land", kind = "categorical" }
"""
    log = read_log(tmp_path, connection, mapping=write(tmp_path, MAPPING + more))
    (row,) = events_of(log, connection)
    assert (row["surface"], row["disliked"], row["propensity"]) == ("feed", False, 0.5)
    viewers = connection.to_pyarrow(log.viewers.order_by("viewer_id")).to_pylist()
    assert viewers == [
        {"viewer_id": "a", "age": 31.0, "country": "de"},
        {"viewer_id": "b", "age": None, "country": "fr"},
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("time_zone", "timezone", r"timezone in .*toml is not a key.*Did you mean 'time_zone'"),
        ('time_zone = "UTC"', "", r"lacks time_zone"),
        ('"UTC"', '"Asia/Shangai"', r"'Asia/Shangai' is not known.*Did you mean 'Asia/Shanghai'"),
        ("viewer_id", "viewer", r"events.viewer in .* is not a key.*Did you mean 'viewer_id'"),
        ('video_id = "what"', "", r"lacks events.video_id"),
        ('unit = "s"', 'units = "s"', r"events.watch.units .* not a key.*Did you mean 'unit'"),
        (', unit = "s"', "", r"events.watch .* does not say its unit; .* \"ms\", \"s\""),
        (
            'unit = "s"',
            'unit = "min"',
            r"watch.unit = 'min' .* must be one of \"ms\", \"s\"",
        ),
        ('"epoch_s"', '"epoch"', r"shown_at.time = 'epoch' .*Did you mean 'epoch_s'"),
        ('"who"', "7", r"events.viewer_id in .* is 7, must be a group of keys"),
        ('"who"', '""', r"events.viewer_id.column .* must be a text"),
        ('"log.csv"', '"logs.csv"', r"no file in .* matches events.file = 'logs.csv'"),
        ('file = "log.csv"', "", r"lacks events.file"),
        ('"seen"', '"sean"', r"no column 'sean'.*Did you mean 'seen'.*right column under"),
        ('file = "log.csv"', 'file = "log.csv"\ndelimiter = "||"', r"delimiter = '\|\|' in .* one"),
        ("[events]", "[events", r"cannot be read as TOML"),
        (
            'file = "log.csv"',
            'file = "log.csv"\npolicy = { constant = "rand" }',
            r"policy .* must hold nothing but a constant that is 'served' or 'random'",
        ),
        (
            'file = "log.csv"',
            'file = "log.csv"\nliked = { constant = 1 }',
            r"liked .* constant that is bool",
        ),
        (
            'file = "log.csv"',
            'file = "log.csv"\npropensity = { constant = true }',
            r"propensity .* constant that is float or int",
        ),
    ],
)
def test_a_wrong_mapping_is_refused_with_what_to_write(
    tmp_path: Path, connection: Backend, right: str, wrong: str, message: str
) -> None:
    assert right in MAPPING
    mapping = write(tmp_path, MAPPING.replace(right, wrong))
    with pytest.raises(EventError, match=message):
        read_log(tmp_path, connection, mapping=mapping)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ('age = "numerical"', r"'age' is of kind 'numerical'.*Did you mean 'numeric'"),
        ('age = { column = "age" }', r"viewers.extras.age .* lacks kind"),
        ('viewer_id = "numeric"', r"'viewer_id' has the name of a canonical column"),
    ],
)
def test_a_wrong_extra_is_refused(
    tmp_path: Path, connection: Backend, extras: str, message: str
) -> None:
    (tmp_path / "people.csv").write_text("who,age\na,31\n")
    viewers = f'[viewers]\nfile = "people.csv"\nviewer_id = "who"\n[viewers.extras]\n{extras}\n'
    with pytest.raises(EventError, match=message):
        read_log(tmp_path, connection, mapping=write(tmp_path, MAPPING + viewers))


def test_a_missing_mapping_and_damaged_files_are_refused(
    tmp_path: Path, connection: Backend
) -> None:
    with pytest.raises(EventError, match="--mapping needs a TOML file"):
        read_log(tmp_path, connection, mapping=tmp_path / "none.toml")
    for name in ("log.parquet", "log.duckdb"):
        (tmp_path / name).write_bytes(b"not a table at all" * 500)
        mapping = write(tmp_path, MAPPING.replace("log.csv", name))
        with pytest.raises(EventError, match=f"{name} cannot be read: .* written|copied whole"):
            read_log(tmp_path, connection, mapping=mapping)
    mapping = write(tmp_path, MAPPING.replace("log.csv", "map.toml"))
    with pytest.raises(EventError, match="has an ending that is not read"):
        read_log(tmp_path, connection, mapping=mapping)
