"""Who was given a slate is in the analysis, also where he sent nothing back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pytest
from ibis.backends.duckdb import Backend
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import ExperimentError
from skipwise.events.read import read_log
from skipwise.experiments.analysis import Analysis, analyse
from skipwise.experiments.assignment import assign
from skipwise.experiments.exposure import EXPOSURES_FILE, read_exposure_log, read_exposures
from skipwise.experiments.panel import make_panel
from skipwise.experiments.verdict import RATIO_ALARM
from skipwise.features.dataset import Dataset
from skipwise.loop import served_exposures
from skipwise.loop.guard import look
from skipwise.loop.served_log import ServedLog
from skipwise.serving.engine import Engine
from skipwise.serving.state.store import Store
from skipwise.serving.wire import Event, EventBatch, FeedRequest
from skipwise.training.checkpoint import TrainedRun
from tests.serving.exposed import DEFINITION, NOON_MS, experimenting, lines, notes, serve

VIEWERS = [f"w{number}" for number in range(400)]
FILE = """
name = "seen"
start = 2024-10-04
days = 1
covariate_days = 0
minimum_viewers = 20
[[variants]]
name = "control"
share = 0.4
model = "run"
[[variants]]
name = "treatment"
share = 0.4
model = "run"
[[metrics]]
name = "watch_per_viewer"
[[guardrails]]
name = "watch_per_viewer"
worse_by_at_most = 0.1
"""


@pytest.fixture
def engine(small_run: TrainedRun, small_dataset: Dataset, store: Store) -> Engine:
    """An engine that serves the experiment on either store."""
    return experimenting(small_run, small_dataset, store)


@pytest.fixture
def connection() -> Iterator[Backend]:
    made = ibis.duckdb.connect(threads=1)
    yield made
    made.disconnect()


def live(engine: Engine, *, drives_off: bool) -> None:
    """Each viewer is given a slate and watches it; of the treated every other may never begin."""
    events: list[Event] = []
    for number, viewer in enumerate(VIEWERS):
        slate = engine.feed(FeedRequest(viewer_id=viewer, k=2), f"q{number}", cheap=True)
        if drives_off and slate.variant == "treatment" and number % 2:
            continue
        events += (
            Event(
                event_id=f"e{number}-{place}",
                viewer_id=viewer,
                video_id=item.video_id,
                shown_at_ms=NOON_MS + place * 30_000,
                watch_ms=10_000 + 10 * number,
                variant=slate.variant,
            )
            for place, item in enumerate(slate.items)
        )
    notes(engine).write()
    engine.keep([EventBatch(events=tuple(events))])


def served_log(engine: Engine, dataset: Dataset, folder: Path, connection: Backend) -> ServedLog:
    before = dataset.path.parent / "log"
    return ServedLog(folder, engine.store, lambda: read_log(before, connection))


def analysed(log: Path, connection: Backend, exposures: Path | None) -> Analysis:
    read = read_log(log, connection)
    exposed = read_exposures(DEFINITION, exposures, read.events)
    return analyse(make_panel(read, connection, DEFINITION, exposed), DEFINITION)


def test_a_variant_that_drives_viewers_off_before_they_send_anything_is_seen(
    engine: Engine, small_dataset: Dataset, tmp_path: Path, connection: Backend
) -> None:
    """By the events the ratio alarms and nobody seems to watch less; by exposure it is even."""
    live(engine, drives_off=True)
    log = tmp_path / "log"
    served_log(engine, small_dataset, log, connection).pull()
    by_events = analysed(log, connection, None)
    assert by_events.ratio_p_value < RATIO_ALARM
    assert by_events.effects[0].low < 0 < by_events.effects[0].high
    assert abs(by_events.effects[0].relative) < 0.1
    told = look(DEFINITION, tmp_path, engine.store, connection)
    assert "treatment: Stop: watch time per viewer" in told
    by_exposure = analysed(log, connection, log / EXPOSURES_FILE)
    assert by_exposure.ratio_p_value > 0.05
    names = assign(DEFINITION, VIEWERS)
    assert by_exposure.viewers == {name: names.count(name) for name in ("control", "treatment")}
    assert by_exposure.effects[0].relative == pytest.approx(-0.5, abs=0.1)
    assert by_exposure.effects[0].high < 0
    held = json.loads((tmp_path / "analysis.json").read_text(encoding="utf-8"))["analysis"]
    assert held["viewers"] == by_exposure.viewers
    _same_by_command(tmp_path, held)


def _same_by_command(folder: Path, held: Any) -> None:
    """`analyse` of the served log, with its exposures named and found by itself, is `watch`'s."""
    definition, log = folder / "seen.toml", folder / "log"
    definition.write_text(FILE, encoding="utf-8")
    for more in ([], ["--exposures", str(log / EXPOSURES_FILE)]):
        words = ["experiment", "analyse", str(definition), str(log), "--out", str(folder / "r")]
        told = CliRunner().invoke(app, [*words, *more])
        assert told.exit_code == 0, told.output
        again = json.loads((folder / "r" / "analysis.json").read_text(encoding="utf-8"))
        assert again["analysis"] == held


def test_where_nobody_is_driven_off_both_say_the_same(
    engine: Engine, small_dataset: Dataset, tmp_path: Path, connection: Backend
) -> None:
    live(engine, drives_off=False)
    log = tmp_path / "log"
    served_log(engine, small_dataset, log, connection).pull()
    by_events = analysed(log, connection, None)
    by_exposure = analysed(log, connection, log / EXPOSURES_FILE)
    assert by_events.viewers == by_exposure.viewers
    assert by_events.effects[0].relative == pytest.approx(by_exposure.effects[0].relative)
    assert by_exposure.ratio_p_value > 0.05
    assert "Stop" not in look(DEFINITION, tmp_path, engine.store, connection)


def test_killed_while_it_appends_each_exposure_is_there_once_and_in_order(
    engine: Engine, small_dataset: Dataset, tmp_path: Path, connection: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    log = tmp_path / "log"
    serve(engine, VIEWERS[:30])
    notes(engine).write()
    served_log(engine, small_dataset, log, connection).pull()
    serve(engine, VIEWERS[30:60])
    notes(engine).write()

    def dies(path: Path, exposures: Any) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(next(iter(exposures)))[:-7])
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(served_exposures, "append_json_lines", dies)
        with pytest.raises(KeyboardInterrupt):
            served_log(engine, small_dataset, log, connection).pull()
    with pytest.raises(ExperimentError, match="must be a list"):
        read_exposure_log(log / EXPOSURES_FILE)
    for _ in range(2):
        served_log(engine, small_dataset, log, connection).pull()
    written = [each.viewer_id for each in read_exposure_log(log / EXPOSURES_FILE)]
    assert written == [line.viewer_id for line in lines(engine.store)]
    assert len(written) > 35
