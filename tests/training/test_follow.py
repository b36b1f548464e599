"""A log is followed once, in order, exactly: however it arrives and wherever it is broken off."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import RunError
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset, iso_day
from skipwise.features.stretches import Plan, plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import predict_rows
from skipwise.report.findings import gather
from skipwise.report.training_section import training_section
from skipwise.simulation.world import FIRST_DAY
from skipwise.training.checkpoint import load_run
from skipwise.training.follow import Follower, FollowSettings
from skipwise.training.followed_rows import rows_of
from skipwise.training.held_out import log_losses
from skipwise.training.learner import Learner
from skipwise.training.published import forget_old, mark_served, model_name
from tests.training.trained import short_run

SETTINGS = FollowSettings(events_together=120, publish_minutes=600.0)


@pytest.fixture(scope="module")
def made(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of five days and a run that has learnt the first three."""
    folder = tmp_path_factory.mktemp("follow")
    (folder / "log").symlink_to(small_dataset.path.parent / "log")
    (folder / "DATASET").symlink_to(small_dataset.path)
    short_run(small_dataset, folder / "run", "passes_at_most=1", last_day=FIRST_DAY + 2)
    return folder


def followed(
    made: Path,
    log: Path,
    out: Path,
    report: Callable[[Mapping[str, Any]], None] | None = None,
) -> Follower:
    follower = Follower(made / "run", out, SETTINGS, report=report)
    connection = ibis.duckdb.connect(threads=1)
    follower.advance(read_log(log, connection), connection)
    return follower


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    newest = sorted((out / "resume").glob("state-*.safetensors"))[-1]
    return load_file(newest)


def same(one: Path, other: Path) -> bool:
    first, second = weights_of(one), weights_of(other)
    return list(first) == list(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )


def cut(log: Path, out: Path, rows: int) -> Path:
    """Copy a log with its first rows only."""
    shutil.copytree(log, out)
    events = pq.read_table(log / "events.parquet")
    pq.write_table(events.slice(0, rows), out / "events.parquet")
    return out


def with_rows(log: Path, out: Path, change: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """Copy a log with other rows; returns them."""
    shutil.copytree(log, out)
    events = change(pq.read_table(log / "events.parquet"))
    pq.write_table(events, out / "events.parquet")
    return events


def learnt_rows(
    made: Path, log: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> list[list[int]]:
    """Follow a log without a step; returns the rows of the file that each part would learn."""
    parts: list[list[int]] = []

    def batches(learner: Learner, plan: Plan, _: np.random.Generator) -> list[Any]:
        order = learner.dataset.events["source_order"].take(plan.candidate_rows)
        parts.append(sorted(order.tolist()))
        return []

    monkeypatch.setattr(Learner, "batches", batches)
    followed(made, log, out)
    return parts


@pytest.fixture(scope="module")
def straight(made: Path) -> Path:
    """The whole log, followed without a break."""
    follower = followed(made, made / "log", made / "straight")
    assert follower.position.published >= 1
    return made / "straight"


@pytest.mark.usefixtures("one_thread")
def test_every_event_after_the_run_is_learnt_once(made: Path, straight: Path) -> None:
    lines = [json.loads(line) for line in (straight / "progress.jsonl").read_text().splitlines()]
    events = pq.read_table(made / "log" / "events.parquet")
    known = int((np.asarray(events["day"]) <= FIRST_DAY + 2).sum())
    ends = [line["events"] for line in lines]
    parts = (events.num_rows - known) // SETTINGS.events_together
    assert parts >= 2
    assert ends == [known + (n + 1) * SETTINGS.events_together for n in range(parts)]


@pytest.mark.usefixtures("one_thread")
def test_the_first_part_is_tested_with_the_weights_of_the_run(made: Path, straight: Path) -> None:
    told = json.loads((straight / "progress.jsonl").read_text().splitlines()[0])
    run, log = load_run(made / "run"), pq.read_table(made / "log" / "events.parquet")
    dataset = Dataset.open(made / "DATASET")
    first = int((np.asarray(log["day"]) <= FIRST_DAY + 2).sum())
    order = np.asarray(dataset.events["source_order"].all())
    chosen = (order >= first) & (order < told["events"])
    plan = plan_stretches(dataset, chosen, View(mode="progressive"),
                          reach=run.settings.model.encoder.reach)  # fmt: skip
    found = predict_rows(run.model, run.catalogue(dataset), dataset, plan)
    label = dataset.events["label_glance"].take(found.row)
    known = label >= 0
    expected = log_losses(found.logits["glance"][known], label[known]).mean()
    assert told["tested"]["glance"]["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_refused_row_moves_no_other_from_its_part(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(events: pa.Table) -> pa.Table:
        known = int((np.asarray(events["day"]) <= FIRST_DAY + 2).sum())
        watch = np.array(events["watch_ms"]).copy()
        watch[[2, known - 9, known + 3, known + 130]] = -1
        place = events.column_names.index("watch_ms")
        return events.set_column(place, "watch_ms", pa.array(watch)).slice(0, known + 300)

    events = with_rows(made / "log", tmp_path / "log", spoilt)
    taken = np.flatnonzero(
        (np.asarray(events["day"]) > FIRST_DAY + 2) & (np.asarray(events["watch_ms"]) >= 0)
    )
    parts = learnt_rows(made, tmp_path / "log", tmp_path / "out", monkeypatch)
    assert parts == [taken[:120].tolist(), taken[120:240].tolist()]


def test_the_days_of_the_run_are_not_learnt_again_wherever_they_stand_in_the_log(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffled(events: pa.Table) -> pa.Table:
        known = int((np.asarray(events["day"]) <= FIRST_DAY + 2).sum())
        earlier, later = events.slice(100, known - 100), events.slice(known, 120)
        return pa.concat_tables([events.slice(0, 50), later, earlier.slice(0, 180),
                                 events.slice(known + 120, 180)])  # fmt: skip

    with_rows(made / "log", tmp_path / "log", shuffled)
    parts = learnt_rows(made, tmp_path / "log", tmp_path / "out", monkeypatch)
    assert parts == [list(range(50, 170)), list(range(350, 410)), list(range(410, 530))]
    lines = (tmp_path / "out" / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["learnt"] for line in lines] == [120, 0, 60, 120]


class _Killed(BaseException):
    pass


@pytest.mark.usefixtures("one_thread")
def test_broken_off_and_gone_on_with_when_the_log_has_grown_the_weights_are_the_same(
    made: Path, straight: Path, tmp_path: Path
) -> None:
    def kill(_: Mapping[str, Any]) -> None:
        raise _Killed

    total = pq.read_table(made / "log" / "events.parquet").num_rows
    short = cut(made / "log", tmp_path / "short", total - 150)
    with pytest.raises(_Killed):
        followed(made, short, tmp_path / "out", kill)
    assert not same(tmp_path / "out", straight)
    resumed = followed(made, made / "log", tmp_path / "out")
    assert same(tmp_path / "out", straight)
    assert resumed.position == followed(made, made / "log", straight).position


def test_a_log_that_shrank_or_was_rewritten_is_refused(
    made: Path, straight: Path, tmp_path: Path
) -> None:
    short = cut(made / "log", tmp_path / "short", 300)
    with pytest.raises(RunError, match="it shrank; a followed log must only grow"):
        followed(made, short, straight)
    other = cut(made / "log", tmp_path / "other", 10**6)
    events = pq.read_table(other / "events.parquet")
    watch = np.array(events["watch_ms"]).copy()
    watch[5] += 1
    place = events.column_names.index("watch_ms")
    pq.write_table(events.set_column(place, "watch_ms", pa.array(watch)), other / "events.parquet")
    with pytest.raises(RunError, match="was rewritten; a followed log must only grow at its end"):
        followed(made, other, straight)


def test_a_published_model_is_a_run_and_differs_from_its_base(made: Path, straight: Path) -> None:
    latest = json.loads((straight / "latest.json").read_text())
    model = load_run(straight / latest["model"])
    base = load_run(made / "run")
    assert model.description["followed"]["events"] == latest["events"]
    assert model.settings == base.settings
    days = np.asarray(pq.read_table(made / "log" / "events.parquet")["day"])
    first = json.loads((straight / "model-00001" / "run.json").read_text())
    assert first["window"]["last_day"] == iso_day(days[: first["followed"]["events"]].max())
    assert first["window"]["last_day"] < iso_day(days.max())
    changed = [
        name
        for name, value in model.model.state_dict().items()
        if not torch.equal(value, base.model.state_dict()[name])
    ]
    assert changed


def test_a_published_model_can_be_reported(straight: Path) -> None:
    assert training_section(gather(straight / "model-00001")).blocks


def test_finding_is_taught_while_the_encoder_moves(straight: Path) -> None:
    lines = [json.loads(line) for line in (straight / "progress.jsonl").read_text().splitlines()]
    assert all(line["losses"]["retrieval"] > 0 for line in lines)


def test_another_run_may_not_go_on_and_the_command_says_where_it_is(
    made: Path, straight: Path, tmp_path: Path
) -> None:
    words = ["train", str(made / "run"), "--follow", str(made / "log"), "--out", str(straight)]
    told = CliRunner().invoke(app, [*words, "--once", "events_together=120"])
    assert told.exit_code == 0, told.output
    assert "models." in told.stdout
    other = tmp_path / "other"
    shutil.copytree(straight / json.loads((straight / "latest.json").read_text())["model"], other)
    with pytest.raises(RunError, match="it must be the same"):
        Follower(other, straight, SETTINGS)


def test_the_first_unknown_value_of_a_column_leaves_earlier_rows_what_they_were() -> None:
    """A log that only grew is not taken for one that was rewritten."""
    columns: dict[str, list[Any]] = {
        "source_order": [0, 1, 2],
        "shown_at_ms": [5, 6, 7],
        "day": [1, 1, 1],
        "position": [3, 4, 5],
        "liked": [True, False, True],
    }
    grown = {name: [*values, values[0]] for name, values in columns.items()}
    grown |= {"source_order": [0, 1, 2, 3], "position": [3, 4, 5, None]}
    grown |= {"liked": [True, False, True, None]}
    short, long = (
        rows_of(SimpleNamespace(events=ibis.memtable(pa.table(each))))  # type: ignore[arg-type]
        for each in (columns, grown)
    )
    np.testing.assert_array_equal(long.keys[:3], short.keys)
    assert len(set(long.keys.tolist())) == 4


def test_old_models_are_deleted_but_none_that_a_server_has_marked(
    made: Path, tmp_path: Path
) -> None:
    """Seven or more are published; two are kept, and the first, by which a server answers."""
    often = dataclasses.replace(SETTINGS, events_together=40, publish_minutes=1.0, models_kept=2)
    out, connection = tmp_path / "live", ibis.duckdb.connect(threads=1)
    mark_served(out, "state", ["model-00001"])
    mark_served(out, "other", [])
    follower = Follower(made / "run", out, often)
    follower.advance(read_log(made / "log", connection), connection)
    number = follower.position.published
    assert number >= 7
    kept = [model_name(1), model_name(number - 1), model_name(number)]
    assert sorted(path.name for path in out.glob("model-*")) == kept
    assert json.loads((out / "latest.json").read_text())["model"] == kept[-1]
    for name in kept:
        load_run(out / name)
    assert not list(out.glob(".gone-*"))
    mark_served(out, "state", [])
    (out / "served" / "damaged.json").write_text("{")
    assert forget_old(out, number, 2) == [], "what cannot be read may be of any model"
    (out / "served" / "damaged.json").unlink()
    assert forget_old(out, number, 2) == [model_name(1)]


def test_a_model_that_a_server_takes_while_it_is_put_aside_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3, 4):
        (tmp_path / model_name(number)).mkdir()
    rename = Path.rename

    def marked_meanwhile(path: Path, target: Path) -> Path:
        if path.name == model_name(1):
            mark_served(tmp_path, "state", [model_name(1)])
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", marked_meanwhile)
    assert forget_old(tmp_path, 4, 2) == [model_name(2)]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [model_name(1), model_name(3), model_name(4), "served"]
    rename(tmp_path / model_name(1), tmp_path / f".gone-{model_name(1)}")  # killed between the two
    assert forget_old(tmp_path, 4, 2) == []
    assert (tmp_path / model_name(1)).is_dir()


def test_an_old_model_that_cannot_be_put_aside_stays_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        (tmp_path / model_name(number)).mkdir()

    def refused(path: Path, target: Path) -> Path:
        raise PermissionError(f"{path} to {target}")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        assert forget_old(tmp_path, 3, 2) == []
    assert forget_old(tmp_path, 3, 2) == [model_name(1)]
