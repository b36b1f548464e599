"""From events to sums per viewer, to a page: the whole way, on a planted world."""

import dataclasses
import json
from pathlib import Path

import ibis
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import ExperimentError
from skipwise.events.read import read_log
from skipwise.experiments.exposure import read_exposures
from skipwise.experiments.metrics import PARTS
from skipwise.experiments.panel import SESSION_GAP_MS, Panel, make_panel
from skipwise.labels.watch import LabelConfig
from skipwise.simulation.world import DAY_MS
from tests.experiments.planted import DEFINITION, FILE, planted_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_log(tmp_path_factory.mktemp("planted") / "log", watch_factor=1.5)


@pytest.fixture(scope="module")
def panel(log: Path) -> Panel:
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    exposures = read_exposures(DEFINITION, None, read.events)
    return make_panel(read, connection, DEFINITION, exposures)


def test_sums_equal_a_plain_loop(log: Path, panel: Panel) -> None:
    events = pq.read_table(log / "events.parquet").to_pylist()
    start = DEFINITION.start_day
    viewers = sorted({e["viewer_id"] for e in events if e["variant"] is not None})
    place = {viewer: number for number, viewer in enumerate(viewers)}
    views, watch, glances, sessions, before = (np.zeros((4, len(viewers))) for _ in range(5))
    last: dict[str, int] = {}
    for event in sorted(events, key=lambda e: (e["viewer_id"], e["shown_at_ms"])):
        day, viewer = event["day"] - start, event["viewer_id"]
        if viewer not in place:
            continue
        if day < 0:
            before[0, place[viewer]] += 1
            continue
        at = day, place[viewer]
        views[at] += 1
        watch[at] += event["watch_ms"] / 1000
        glances[at] += event["watch_ms"] < min(3000, event["duration_ms"])
        since = event["shown_at_ms"] - last.get(viewer, -(10**15))
        sessions[at] += since > SESSION_GAP_MS
        last[viewer] = event["shown_at_ms"]
    for name, expected in (
        ("views", views),
        ("watch_s", watch),
        ("glances", glances),
        ("sessions", sessions),
    ):
        np.testing.assert_allclose(panel.sums[PARTS.index(name)], expected)
    np.testing.assert_array_equal(panel.before[PARTS.index("views")], before[0])
    active = views > 0
    np.testing.assert_array_equal(
        panel.totals(2)[PARTS.index("returns")], (active[:2] & active[1:3]).sum(axis=0)
    )


def test_a_glance_is_what_the_datasets_labels_say(log: Path, panel: Panel) -> None:
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    exposures = read_exposures(DEFINITION, None, read.events)
    other = make_panel(
        read, connection, DEFINITION, exposures, labels=LabelConfig(glance_below_s=6.0)
    )
    watch_s, glances = (PARTS.index(name) for name in ("watch_s", "glances"))
    np.testing.assert_array_equal(other.sums[watch_s], panel.sums[watch_s])
    assert other.sums[glances].sum() > panel.sums[glances].sum()


def test_who_counts_from_when(log: Path, panel: Panel) -> None:
    first = (panel.sums[PARTS.index("views")] > 0).argmax(axis=0)
    np.testing.assert_array_equal(panel.since, first)
    assert panel.before[PARTS.index("views")][panel.segment == 0].sum() == 0
    views = panel.before[PARTS.index("views")]
    assert views[panel.segment == 2].min() > views[panel.segment == 1].max()
    assert log.is_dir()


def test_the_commands_go_from_a_file_to_a_page(log: Path, tmp_path: Path) -> None:
    definition, out = tmp_path / "experiment.toml", tmp_path / "out"
    definition.write_text(FILE, encoding="utf-8")
    run = CliRunner().invoke
    checked = run(app, ["experiment", "check", str(definition)])
    assert checked.exit_code == 2
    assert "'control' cannot be served with its model 'runs/a'" in checked.stderr
    assert run(app, ["experiment", "check", str(definition), "--no-models"]).exit_code == 0
    (tmp_path / "viewers.txt").write_text("u1\nu7\n", encoding="utf-8")
    assigned = run(app, ["experiment", "assign", str(definition), str(tmp_path / "viewers.txt")])
    assert assigned.stdout.splitlines()[0] == "viewer_id,variant"
    analysed = run(app, ["experiment", "analyse", str(definition), str(log), "--out", str(out)])
    assert analysed.exit_code == 0, analysed.output
    assert "Simulated viewers. treatment: watch time per viewer" in analysed.stdout
    held = json.loads((out / "analysis.json").read_text(encoding="utf-8"))
    assert held["verdicts"][0]["decision"] == "better"
    effect = held["analysis"]["effects"][0]
    assert effect["relative_low"] < 0.5 < effect["relative_high"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Simulated viewers" in page
    assert page.count("<svg") == 2
    (out / "report.html").unlink()
    assert run(app, ["experiment", "report", str(out)]).exit_code == 0
    assert (out / "report.html").read_text(encoding="utf-8") == page


def test_an_experiment_outside_the_log_is_refused(log: Path, tmp_path: Path) -> None:
    definition, exposures = tmp_path / "later.toml", tmp_path / "exposures.jsonl"
    definition.write_text(FILE.replace("2024-03-08", "2025-03-08"), encoding="utf-8")
    viewers = tmp_path / "viewers.txt"
    viewers.write_text("".join(f"u{number}\n" for number in range(300)), encoding="utf-8")
    run = CliRunner().invoke
    words = ["experiment", "assign", str(definition), str(viewers), "--exposures", str(exposures)]
    assert run(app, words).exit_code == 0
    words = ["experiment", "analyse", str(definition), str(log), "--out", str(tmp_path / "out")]
    refused = run(app, [*words, "--exposures", str(exposures)])
    assert refused.exit_code == 2
    assert "no event of an exposed viewer from 2025-03-08 on" in refused.stderr.replace("\n", " ")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "analysis.json").write_text("{}", encoding="utf-8")
    assert run(app, ["experiment", "report", str(damaged)]).exit_code == 2


def test_a_view_that_names_the_variant_counts_however_its_clock_is_set(
    log: Path, panel: Panel
) -> None:
    """Exposed ten days later, by the log: what was served counts, unmarked views do not."""
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log, connection)
    late = read_exposures(DEFINITION, None, read.events)
    late.since_ms[:] += 10 * DAY_MS
    unmarked = dataclasses.replace(read, events=read.events.mutate(variant=ibis.null("string")))
    views = PARTS.index("views")
    again = make_panel(read, connection, DEFINITION, late)
    np.testing.assert_array_equal(again.sums[views], panel.sums[views])
    with pytest.raises(ExperimentError, match="holds no event of an exposed viewer"):
        make_panel(unmarked, connection, DEFINITION, late)
