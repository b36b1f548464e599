"""Random exposures, scored by the real pipeline as of the day before, judged for any weights."""

import dataclasses
import json
import re
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import DatasetError
from skipwise.evaluation.offpolicy import Pool
from skipwise.events.read import read_log
from skipwise.labels.watch import LabelConfig
from skipwise.loop.replay import Replayed, _outcomes, judge_weights, replay
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.simulation.world import FIRST_DAY, WorldSettings
from tests.training.trained import short_run
from tests.worlds import edited_after, prepared_world

WORLD = WorldSettings(
    viewers=30,
    videos=40,
    authors=10,
    topics=4,
    days=3,
    random_share=0.3,
    views_per_viewer_day=10,
    seed=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    dataset = prepared_world(folder, WORLD)
    short_run(dataset, folder / "run", "passes_at_most=1", last_day=FIRST_DAY + 1)
    return folder


def replayed(
    folder: Path,
    log: Path | None = None,
    from_day: int = FIRST_DAY + 2,
    *,
    uniform: Pool | None = None,
) -> Replayed:
    connection = ibis.duckdb.connect(threads=1)
    read = read_log(log or folder / "log", connection)
    return replay(folder / "run", read, connection, from_day, candidates=4, uniform=uniform)


@pytest.fixture(scope="module")
def found(folder: Path) -> Replayed:
    return replayed(folder)


def test_what_was_shown_is_scored_as_of_the_day_before(folder: Path, found: Replayed) -> None:
    events = pq.read_table(folder / "log" / "events.parquet")
    chosen = (np.asarray(events["policy"]) == "random") & (
        np.asarray(events["day"]) >= FIRST_DAY + 2
    )
    assert found.watch_s.shape == (chosen.sum(), 4)
    watch = np.asarray(events["watch_ms"])[chosen] / 1000
    np.testing.assert_array_equal(found.outcomes["glance"], watch < 3)
    assert len({tuple(row) for row in found.watch_s.round(6).tolist()}) > 0.8 * len(watch)


def test_an_outcome_is_a_glance_as_the_runs_labels_say() -> None:
    rows = pa.table({"watch_ms": [1000, 4000, 4000, 9000], "duration_ms": [9000, 9000, 3500, 9000]})
    for below_s, expected in ((3.0, [1, 0, 0, 0]), (6.0, [1, 1, 0, 0])):
        outcomes = _outcomes(rows, LabelConfig(glance_below_s=below_s))
        assert outcomes["glance"].tolist() == expected


def test_watch_time_counts_up_to_300_s() -> None:
    """No simulated video of these tests is watched so long: one that is left on all night is."""
    rows = pa.table({"watch_ms": [299_000, 301_000, 28_800_000], "duration_ms": [60_000] * 3})
    assert _outcomes(rows, LabelConfig())["watch_s"].tolist() == [299, 300, 300]


def test_the_future_of_the_judged_days_is_not_in_a_score(
    folder: Path, found: Replayed, tmp_path: Path
) -> None:
    """Other outcomes on the judged day, the same predictions."""
    edited = edited_after(folder / "log", tmp_path / "edited", FIRST_DAY + 1)
    one, other = found, replayed(folder, edited)
    np.testing.assert_array_equal(one.watch_s, other.watch_s)
    assert (one.outcomes["glance"] != other.outcomes["glance"]).all()


def test_the_command_judges_weights(
    folder: Path, found: Replayed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was replayed above is given to the command, whose own part is the judging."""
    monkeypatch.setattr("skipwise.loop.replay.replay", lambda *_, **__: found)
    save_score_weights(tmp_path / "skips.json", ScoreWeights(glance_power=9.0, watch_power=0.0))
    words = ["offpolicy", str(folder / "run"), str(folder / "log"), "--candidates", "4"]
    words += ["--from", "2024-03-06", "--weights", str(tmp_path / "skips.json")]
    out = tmp_path / "out.json"
    told = CliRunner().invoke(app, [*words, "--least", "5", "--json", str(out)])
    assert told.exit_code == 0, told.output
    (judged,) = json.loads(out.read_text()).values()
    assert 0 < judged["glance"]["by"]["snips"]["value"] < 1
    assert re.search(r"doubly robust +\S+ +\S+ to \S+$", told.stdout, flags=re.MULTILINE)
    refused = CliRunner().invoke(app, [*words, "--least", "1e6"])
    assert refused.exit_code == 2
    assert "are needed for an answer" in " ".join(refused.stderr.split())


def test_better_knowledge_is_seen_to_bring_fewer_skips() -> None:
    """With the truth as prediction, weights on skips beat weights on nothing much."""
    rng = np.random.default_rng(0)
    p = np.asarray(rng.beta(2, 2, (4000, 5)), dtype=np.float64)
    known = Replayed(
        row=np.arange(4000),
        num_drawn=4000,
        viewer=np.arange(4000) // 10,
        outcomes={"glance": (rng.random(4000) < p[:, 0]).astype(np.float64)},
        video_id=np.full(p.shape, "v", dtype=object),
        candidate=np.ones(p.shape, dtype=bool),
        propensity=np.full(4000, 0.2),
        best_of=5,
        chances={"glance": p},
        watch_s=rng.exponential(10.0, (4000, 5)),
    )
    careful = judge_weights(known, ScoreWeights(glance_power=5.0, watch_power=0.0))["glance"]
    blind = judge_weights(known, ScoreWeights(glance_power=0.0))["glance"]
    assert careful.by["doubly_robust"].high < blind.by["doubly_robust"].low
    best = p.min(axis=1).mean()
    assert careful.by["snips"].low < best < careful.by["snips"].high
    thin = dataclasses.replace(
        known,
        viewer=known.viewer[:100],
        outcomes={"glance": known.outcomes["glance"][:100]},
        video_id=known.video_id[:100],
        candidate=known.candidate[:100],
        propensity=known.propensity[:100],
        chances={"glance": p[:100]},
        watch_s=known.watch_s[:100],
    )
    with pytest.raises(DatasetError, match="at least 100 are needed"):
        judge_weights(thin, ScoreWeights())


def test_a_log_that_cannot_be_judged_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="must have learnt from days before"):
        replayed(folder, from_day=FIRST_DAY + 1)
    logs = {"none": "no row", "unknown": "propensity", "unequal": "unequal"}
    for name in logs:
        (tmp_path / name).mkdir()
        for file in (folder / "log").glob("*"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    events = pq.read_table(folder / "log" / "events.parquet")
    place = events.column_names.index("propensity")
    given = np.array(events["propensity"].to_pylist(), dtype=float)
    unknown = np.full(given.size, np.nan)
    unequal = np.where(np.arange(given.size) % 2 == 0, given, given / 2)
    served = np.array(["served"] * given.size)
    for name, column, values in (
        ("none", "policy", served),
        ("unknown", "propensity", unknown),
        ("unequal", "propensity", unequal),
    ):
        at = events.column_names.index(column) if column == "policy" else place
        array = values.tolist() if column == "policy" else [
            None if np.isnan(value) else value for value in values.tolist()
        ]  # fmt: skip
        pq.write_table(events.set_column(at, column, [array]), tmp_path / name / "events.parquet")
    with pytest.raises(DatasetError, match="No row of the log was drawn at random"):
        replayed(folder, tmp_path / "none")
    with pytest.raises(DatasetError, match="have no propensity"):
        replayed(folder, tmp_path / "unknown")
    with pytest.raises(DatasetError, match="with --uniform they must be equal"):
        replayed(folder, tmp_path / "unequal", uniform="shown")
