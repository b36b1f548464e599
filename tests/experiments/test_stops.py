"""A stopped variant is judged as of its stop, whatever its viewers do afterwards."""

import dataclasses
import json
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import ExperimentError
from skipwise.events.read import read_log
from skipwise.experiments.analysis import Analysis, analyse
from skipwise.experiments.definition import Guardrail, Variant
from skipwise.experiments.exposure import read_exposures
from skipwise.experiments.metrics import PARTS
from skipwise.experiments.panel import Panel, UntilStop, make_panel
from skipwise.experiments.stops import Stop, read_stops
from skipwise.experiments.verdict import judge
from skipwise.simulation.world import DAY_MS, FIRST_DAY, UTC_OFFSET_MS
from skipwise.storage import append_json_lines
from tests.experiments.planted import DEFINITION, FILE, made_panel, planted_log

GUARDED = dataclasses.replace(
    DEFINITION,
    guardrails=(Guardrail(name="watch_per_view", worse_by_at_most=0.05),),
)
"""Four days, of which the treated see the treatment until the second evening."""
KEY = GUARDED.assignment_key
EVENING_MS = (FIRST_DAY + 5) * DAY_MS + 20 * 3_600_000 - UTC_OFFSET_MS
STOP = Stop("planted", KEY, "treatment", EVENING_MS, "watch_per_view", "Stop: so it was.")
WEEK = dataclasses.replace(DEFINITION, days=7, guardrails=())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Treated viewers watch a third as long, until they are given control under another name."""
    folder = planted_log(tmp_path_factory.mktemp("stopped") / "log", watch_factor=1.0)
    events = pq.read_table(folder / "events.parquet")
    treated = pc.fill_null(pc.equal(events["variant"], "treatment"), fill_value=False)
    late = pc.greater_equal(events["shown_at_ms"], EVENING_MS)
    early_ms = pc.cast(pc.divide(events["watch_ms"], 3), pa.int64())
    watch_ms = pc.if_else(pc.and_not(treated, late), early_ms, events["watch_ms"])
    variant = pc.if_else(pc.and_(treated, late), "stopped", events["variant"])
    for name, column in (("watch_ms", watch_ms), ("variant", variant)):
        events = events.set_column(events.column_names.index(name), name, column)
    pq.write_table(events, folder / "events.parquet")
    return folder


def found_in(log: Path, stops: dict[str, Stop], *, until_ms: int | None = None) -> Analysis:
    """Analyse a log, or what there was of it at a moment."""
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    if until_ms is not None:
        shown = read.events.filter(read.events.shown_at_ms < until_ms)
        read = dataclasses.replace(read, events=shown)
    exposures = read_exposures(GUARDED, None, read.events)
    panel = make_panel(read, connection, GUARDED, exposures, stops=stops)
    connection.disconnect()
    return analyse(panel, GUARDED)


def test_what_is_seen_after_the_stop_moves_nothing_and_without_the_stop_it_does(log: Path) -> None:
    stops = {"treatment": STOP}
    then, later = found_in(log, stops, until_ms=EVENING_MS), found_in(log, stops)
    assert (then.days, later.days) == (2, 4)
    assert later.stopped["treatment"].days == 2
    assert later.stopped == then.stopped
    assert [repr(each) for each in later.effects] == [repr(each) for each in then.effects]
    assert [repr(each) for each in later.looks] == [repr(each) for each in then.looks]
    assert repr(later.segments) == repr(then.segments)
    assert later.ratio_p_value == then.ratio_p_value
    (verdict,) = judge(later, GUARDED)
    assert judge(then, GUARDED) == [verdict]
    assert verdict.decision == "stopped"
    assert verdict.words.startswith(
        "Stopped on day 2 of 4 by guardrail watch_per_view; judged on days 1-2 up to the stop, "
        "control too. watch time per view, s is worse by more than the tolerated 5.0%: -"
    )
    forgotten = found_in(log, {})
    assert [each.metric for each in forgotten.effects] == [each.metric for each in later.effects]
    for known, diluted in zip(later.effects, forgotten.effects, strict=True):
        if known.metric == "watch_per_view":
            assert known.relative < 1.5 * diluted.relative < 0
    assert judge(forgotten, GUARDED)[0].decision != "stopped"


def test_as_of_the_stop_the_sums_are_those_of_a_log_that_ends_there(log: Path) -> None:
    """Of both variants, and the stop's own day until the stop alone."""
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    exposures = read_exposures(GUARDED, None, read.events)
    exposures.since_ms[::9] = EVENING_MS + 1  # say, by an exposure log
    panel = make_panel(read, connection, GUARDED, exposures, stops={"treatment": STOP})
    _, day, until = panel.stopped["treatment"]
    assert day == 1
    assert until.num_days == 2
    met = exposures.since_ms < EVENING_MS
    np.testing.assert_array_equal(until.variant, panel.variant[met])
    events = pq.read_table(log / "events.parquet").to_pylist()
    for who in (0, 1):
        seen = {exposures.viewer_id[row] for row in np.flatnonzero(met & (panel.variant == who))}
        expected = [
            sum(
                each["viewer_id"] in seen
                and each["day"] == GUARDED.start_day + place
                and each["shown_at_ms"] < EVENING_MS
                for each in events
            )
            for place in range(2)
        ]
        views = until.sums[PARTS.index("views")][:, until.variant == who].sum(axis=1)
        assert views.tolist() == expected
        assert views[1] < panel.sums[PARTS.index("views"), 1, panel.variant == who].sum()


def test_a_view_under_another_name_came_after_the_stop_however_its_clock_is_set(log: Path) -> None:
    """Views of control's, dated an hour before the stop by a clock that is behind."""
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    events, minute_ms = read.events, 60_000
    behind = events.mutate(
        shown_at_ms=(events.variant == "stopped")
        .fill_null(False)
        .ifelse(EVENING_MS - minute_ms, events.shown_at_ms)
    )
    exposures = read_exposures(GUARDED, None, events)
    stops = {"treatment": STOP}
    right = make_panel(read, connection, GUARDED, exposures, stops=stops)
    wrong = make_panel(
        dataclasses.replace(read, events=behind), connection, GUARDED, exposures, stops=stops
    )
    views = PARTS.index("views")
    np.testing.assert_array_equal(
        wrong.stopped["treatment"].panel.sums[views], right.stopped["treatment"].panel.sums[views]
    )


def until(panel: Panel, treatment: str, days: int) -> dict[str, UntilStop]:
    stop = STOP._replace(variant=treatment)
    part = dataclasses.replace(panel, sums=panel.sums[:, :days])
    return {treatment: UntilStop(stop, days - 1, part)}


def test_viewers_who_come_after_the_stop_are_no_uneven_ratio() -> None:
    """Control goes on being given to new viewers; until the stop the numbers are as planned."""
    panel = made_panel(np.random.default_rng(20), viewers=800)
    late = panel.of((panel.variant == 0) | (np.arange(800) % 2 > 0))
    fair = dataclasses.replace(late, stopped=until(panel, "treatment", 3))
    assert judge(analyse(late, WEEK), WEEK)[0].decision == "distrust"
    assert judge(analyse(fair, WEEK), WEEK)[0].decision == "stopped"
    lost = dataclasses.replace(late, stopped=until(late, "treatment", 3))
    assert judge(analyse(lost, WEEK), WEEK)[0].decision == "distrust"


def test_a_stopped_variant_leaves_the_others_what_they_are() -> None:
    """They are judged on all days, and its comparisons still count where p-values are corrected."""
    rng = np.random.default_rng(21)
    panel = made_panel(rng, viewers=1200, variant=rng.integers(0, 3, 1200), lift=0.5)
    names = ("control", "b", "c")
    three = dataclasses.replace(
        WEEK, variants=tuple(Variant(name=name, share=1 / 4, model="m") for name in names)
    )
    stopped = until(panel.of(panel.variant != 2), "b", 2)
    whole, part = analyse(panel, three), analyse(dataclasses.replace(panel, stopped=stopped), three)

    def of(analysis: Analysis, name: str) -> dict[str, float]:
        return {e.metric: e.effect for e in analysis.effects if e.treatment == name}

    assert of(part, "c") == of(whole, "c")
    assert of(part, "b") != of(whole, "b")
    assert {e.day for e in part.effects if e.treatment == "b"} == {1}
    assert max(e.day for e in part.looks if e.treatment == "b") == 1
    assert all(np.isnan(e.p_value) and np.isnan(e.p_adjusted) for e in part.effects if e.day == 1)
    for before, after in zip(
        (e for e in whole.effects if e.treatment == "c"),
        (e for e in part.effects if e.treatment == "c"),
        strict=True,
    ):
        assert after.p_value == before.p_value
        assert after.p_adjusted >= before.p_adjusted
        assert after.always_low == before.always_low
    decisions = {each.treatment: each.decision for each in judge(part, three)}
    assert decisions["b"] == "stopped"
    assert decisions["c"] == judge(whole, three)[1].decision


def test_a_variant_stopped_before_anything_could_be_said_is_told_so() -> None:
    panel = made_panel(np.random.default_rng(22))
    few = panel.of(np.arange(panel.variant.size) < 30)
    stopped = dataclasses.replace(panel, stopped=until(few, "treatment", 1))
    (verdict,) = judge(analyse(stopped, WEEK), WEEK)
    assert verdict.words.startswith(
        "Stopped on day 1 of 7 by guardrail watch_per_view; judged on d"
    )
    assert "Too few viewers" in verdict.words


def test_the_command_judges_as_of_the_stop_and_says_so_everywhere(
    log: Path, tmp_path: Path
) -> None:
    definition, out, stops = (tmp_path / name for name in ("e.toml", "out", "stopped-by-hand"))
    definition.write_text(FILE, encoding="utf-8")
    append_json_lines(stops, [STOP, STOP._replace(at_ms=EVENING_MS + DAY_MS)])
    words = ["experiment", "analyse", str(definition), str(log), "--out", str(out)]
    told = CliRunner().invoke(app, [*words, "--stops", str(stops)])
    assert told.exit_code == 0, told.output
    assert "stopped on day 2" in told.stdout
    assert "judged on days 1-2" in told.stdout
    held = json.loads((out / "analysis.json").read_text(encoding="utf-8"))
    assert held["verdicts"][0]["decision"] == "stopped"
    assert held["analysis"]["stopped"]["treatment"]["at_ms"] == EVENING_MS
    assert held["analysis"]["stopped"]["treatment"]["guardrail"] == "watch_per_view"
    assert {each["day"] for each in held["analysis"]["looks"]} == {0, 1}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("stopped on day 2") >= 2
    assert "until the stop: who was" in page
    append_json_lines(log / "stops.jsonl", [STOP])
    beside = CliRunner().invoke(app, words)
    (log / "stops.jsonl").unlink()
    assert beside.stdout == told.stdout


def test_a_stop_that_cannot_be_is_refused(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "stops.jsonl"

    def read(*stops: Stop) -> dict[str, Stop]:
        path.unlink(missing_ok=True)
        append_json_lines(path, stops)
        return dict(read_stops(GUARDED, path))

    assert read(STOP._replace(experiment="another"), STOP._replace(at_ms=EVENING_MS + 1), STOP) == {
        "treatment": STOP
    }
    for stop, words in (
        (STOP._replace(variant="control"), "stops 'control', must stop one of the treatments"),
        (STOP._replace(key="moved"), "under other shares or another salt"),
        (STOP._replace(guardrail="glances"), "names the guardrail 'glances'"),
    ):
        with pytest.raises(ExperimentError, match=words):
            read(STOP, stop)
    path.write_text('["planted"', encoding="utf-8")
    with pytest.raises(ExperimentError, match=r"stops\.jsonl:1 is .* must be a list of"):
        read_stops(GUARDED, path)
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_stops(GUARDED, tmp_path / "absent.jsonl")
    early = {"treatment": STOP._replace(at_ms=EVENING_MS - 4 * DAY_MS)}
    with pytest.raises(ExperimentError, match="stopped 3 days before 2024-03-08, its first day"):
        found_in(log, early)
    late = {"treatment": STOP._replace(at_ms=EVENING_MS + 4 * DAY_MS)}
    assert found_in(log, late).stopped == {}
