"""A server gives each viewer the variant of the experiment, until a guardrail is broken."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.errors import ExperimentError, SettingError, StateError
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import read_definition
from skipwise.features.dataset import Dataset
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.serving.opening import join_state
from skipwise.serving.serve import Service, app_of
from skipwise.serving.state.store import open_store
from skipwise.training.checkpoint import TrainedRun
from tests.long_form import long_form
from tests.serving.published import publish
from tests.serving.running import Client, Command, running

VIEWERS = [f"w{number}" for number in range(160)]


def definition(folder: Path, run: TrainedRun) -> Path:
    """Two variants: the run and another model with another score; skips may grow by a tenth."""
    publish(folder, "treatment", run)
    save_score_weights(folder / "other.json", ScoreWeights(glance_power=0.0))
    today = dt.datetime.now(dt.timezone(dt.timedelta(hours=8))).date()
    path = folder / "experiment.toml"
    path.write_text(
        f"""
name = "guarded"
start = {today.isoformat()}
days = 7
covariate_days = 0
minimum_viewers = 20
[[variants]]
name = "control"
share = 0.5
model = "{run.path}"
[[variants]]
name = "treatment"
share = 0.4
model = "treatment"
score = "other.json"
[[metrics]]
name = "watch_per_viewer"
[[guardrails]]
name = "glance_rate"
worse_by_at_most = 0.1
"""
    )
    return path


def slates(client: Client) -> dict[str, Any]:
    return {
        viewer: client.ask("POST", "/v1/feed", {"viewer_id": viewer, "k": 6}) for viewer in VIEWERS
    }


def watch(client: Client, shown: dict[str, Any], skips: dict[str, int]) -> None:
    """Each viewer sees his slate; about the first `skips` of six are left at once."""
    for number, (viewer, slate) in enumerate(shown.items()):
        left = skips[slate["variant"]] + number % 3 - 1
        client.keep(
            *(
                {
                    "event_id": f"{slate['request_id']}-{place}",
                    "viewer_id": viewer,
                    "video_id": item["video_id"],
                    "shown_at_ms": int(time.time() * 1000) - 60_000 + place,
                    "watch_ms": 500 if place < left else 10_000 + 100 * number,
                    "duration_ms": 30_000,
                    "request_id": slate["request_id"],
                    "variant": slate["variant"],
                }
                for place, item in enumerate(slate["items"])
            )
        )


def look(path: Path, state: str, dataset: Dataset, out: Path) -> str:
    before = str(dataset.path.parent / "log")
    words = ["experiment", "watch", str(path), "--state", state, "--before", before]
    told = CliRunner().invoke(app, [*words, "--out", str(out), "--once"])
    assert told.exit_code == 0, told.output
    return told.stdout


@long_form
def test_a_broken_guardrail_takes_the_variant_from_all_its_viewers(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    path, state = definition(tmp_path, small_run), f"sqlite:{tmp_path / 'state.db'}"
    words = ("--experiment", str(path), "--workers", "2")
    server = Command(small_run.path, small_dataset.path, state, *words).start()
    try:
        shown = slates(server.client)
        names = dict(zip(VIEWERS, assign(read_definition(path), VIEWERS), strict=True))
        assert {v: slate["variant"] for v, slate in shown.items()} == {
            viewer: name or "current" for viewer, name in names.items()
        }
        models = {slate["variant"]: slate["model"].split("@")[0] for slate in shown.values()}
        assert models == {"control": "first", "treatment": "treatment", "current": "first"}
        watch(server.client, shown, {"control": 2, "treatment": 2, "current": 2})
        assert "Keep running" in look(path, state, small_dataset, tmp_path / "watched")
        assert server.client.ask("GET", "/v1/models")["stopped"] == {}
        for _ in range(2):
            watch(
                server.client, slates(server.client), {"control": 2, "treatment": 6, "current": 2}
            )
        told = look(path, state, small_dataset, tmp_path / "watched")
        assert "treatment: Stop: skip rate" in told.replace("\n", " ")
        _is_stopped(server.client, names)
        server.stop()
        server = Command(small_run.path, small_dataset.path, state, *words).start()
        shown = _is_stopped(server.client, names)
        watch(server.client, shown, {"control": 2, "stopped": 2, "current": 2})
    finally:
        server.stop()
    # those who were moved are no longer of the experiment, and do not spoil it
    told = look(path, state, small_dataset, tmp_path / "watched")
    assert "Stopped on day 1 of 7 by guardrail glance_rate" in told.replace("\n", " ")


def _is_stopped(client: Client, names: dict[str, str | None]) -> dict[str, Any]:
    """Nobody has the treatment, everybody control's model; returns the slates."""
    after = slates(client)
    assert {viewer: slate["variant"] for viewer, slate in after.items()} == {
        viewer: "current" if name is None else name.replace("treatment", "stopped")
        for viewer, name in names.items()
    }
    assert {slate["model"].split("@")[0] for slate in after.values()} == {"first"}
    assert "skip rate" in client.ask("GET", "/v1/models")["stopped"]["treatment"]
    return after


def test_shares_changed_in_mid_flight_are_refused_by_the_next_start_and_the_watch(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    """Also where no viewer moves, only more are let in, which the events cannot tell."""
    path, state = definition(tmp_path, small_run), f"sqlite:{tmp_path / 'state.db'}"
    service = Service(run=small_run.path, data=small_dataset.path, state=state, experiment=path)
    with running(service):
        pass
    path.write_text(path.read_text().replace("share = 0.4", "share = 0.5"))
    with pytest.raises(ExperimentError, match="with other shares, variants or another salt"):
        app_of(service)
    words = ["experiment", "watch", str(path), "--state", state, "--once"]
    words += ["--before", str(small_dataset.path.parent / "log"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2
    assert "start anew under another name" in " ".join(told.stderr.split())
    path.write_text(path.read_text().replace('"guarded"', '"anew"'))
    app_of(service)


def test_a_watch_before_the_server_does_not_settle_the_shares(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    path, state = definition(tmp_path, small_run), f"sqlite:{tmp_path / 'state.db'}"
    with running(Service(run=small_run.path, data=small_dataset.path, state=state)):
        pass
    right = path.read_text()
    path.write_text(right.replace("share = 0.4", "share = 0.04"))
    assert "Nothing can be said yet" in look(path, state, small_dataset, tmp_path / "watched")
    path.write_text(right)
    app_of(Service(run=small_run.path, data=small_dataset.path, state=state, experiment=path))


def test_a_state_that_no_server_has_begun_cannot_be_watched(
    small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path
) -> None:
    state = f"sqlite:{tmp_path / 'mistyped.db'}"
    words = ["experiment", "watch", str(definition(tmp_path, small_run)), "--state", state]
    words += ["--before", str(small_dataset.path.parent / "log"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, [*words, "--once"])
    assert told.exit_code == 2
    assert "no state that a server has begun" in " ".join(told.stderr.split())
    assert not (tmp_path / "mistyped.db").exists()
    open_store(state).close()
    with pytest.raises(StateError, match="no state that a server has begun"):
        join_state(state)


def test_models_may_not_change_while_an_experiment_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="given together; models must not change"):
        Service(run=tmp_path, state="sqlite:x", follow=tmp_path, experiment=tmp_path / "e.toml")
