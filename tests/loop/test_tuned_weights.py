"""Weights that a search wrote are lived with in simulation, and served as they are."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from skipwise.cli.main import app
from skipwise.evaluation.tuning import Trade
from skipwise.experiments.effects import Effect
from skipwise.features.dataset import Dataset, iso_day
from skipwise.loop.closed import loop_settings
from skipwise.loop.simulated_slates import SimulatedSlates, offer
from skipwise.loop.simulated_trade import pooled
from skipwise.model.score import ScoreWeights, load_score_weights
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.state.store import open_store
from skipwise.serving.wire import FeedRequest
from skipwise.settings import apply_settings, settings_to_dict
from skipwise.simulation.log import simulate
from skipwise.simulation.world import FIRST_DAY, WorldSettings
from tests.long_form import long_form
from tests.serving.running import Command
from tests.training.trained import short_run
from tests.worlds import prepared_world

WORLD = WorldSettings(
    viewers=200, videos=60, authors=15, topics=6, days=4, views_per_viewer_day=8.0, living=True
)


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world of living viewers, its dataset, a run that has not seen its last two days."""
    folder = tmp_path_factory.mktemp("tuned")
    short_run(prepared_world(folder, WORLD), folder / "run", last_day=FIRST_DAY + 1)
    return folder


@long_form
@pytest.mark.slow
def test_a_search_is_judged_by_living_viewers_and_served(living: Path, tmp_path: Path) -> None:
    days, tuned = [iso_day(FIRST_DAY + place) for place in (2, 3)], tmp_path / "tuned"
    words = ["tune", str(living / "run"), "--from", days[0], "--to", days[1], "--out", str(tuned)]
    words += ["--simulate", str(living / "log"), "trials=15", "at=2", "give=0.5"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    found = json.loads((tuned / "tune.json").read_text())
    assert found["choice"]["weights"] != found["today"]["weights"]
    assert "SIMULATED" in told.stdout
    lived = found["simulated"]["glance_rate"]
    assert len(lived["by_seed"]) == 3
    assert lived["low"] < lived["relative"] < lived["high"]
    state = f"sqlite:{tmp_path / 'state.db'}"
    data, weights = living / "DATASET", tuned / "weights.json"
    server = Command(living / "run", data, state, "--weights", str(weights)).start()
    try:
        served = server.client.ask("GET", "/v1/score")["weights"]
        assert served == settings_to_dict(load_score_weights(weights))
        assert served != found["today"]["weights"]
        videos = [str(each) for each in Dataset.open(data).videos["video_id"].to_pylist()[:20]]
        tuned_order = [each["video_id"] for each in server.client.rank("u1", videos)["items"]]
        server.client.ask("PUT", "/v1/score", found["today"]["weights"])
        todays = [each["video_id"] for each in server.client.rank("u1", videos)["items"]]
        assert sorted(tuned_order) == sorted(todays)
        assert tuned_order != todays
    finally:
        server.stop()


def test_a_search_in_a_world_is_called_simulated_and_writes_what_serve_takes(
    living: Path, tmp_path: Path
) -> None:
    words = ["tune", str(living / "run"), "--data", str(living / "DATASET")]
    words += ["--out", str(tmp_path / "tuned"), "trials=15", "at=3", "give=0.5"]
    world = ["--search-in", str(living / "log")]
    told = CliRunner().invoke(app, [*words, *world])
    assert told.exit_code == 0, told.output
    assert "Simulated viewers. " in told.stdout
    found = json.loads((tmp_path / "tuned" / "tune.json").read_text())
    assert (found["searched_in"], set(found["judged"])) == ("simulator", {"glance", "watch_s"})
    weights = load_score_weights(tmp_path / "tuned" / "weights.json")
    assert settings_to_dict(weights) == found["choice"]["weights"]
    page = (tmp_path / "tuned" / "report.html").read_text(encoding="utf-8")
    assert "nothing about people" in page
    other = tmp_path / "other"
    simulate(other, dataclasses.replace(WORLD, seed=1))
    for more, said in (
        ([*world, "--from", "2024-03-06"], "only one can be"),
        ([], "both are needed"),
        ([*world, "keep=effective"], "is not counted in the simulator"),
        (["--search-in", str(tmp_path)], "holds no world.json"),
        (["--search-in", str(other)], "that `skipwise prepare` made of it"),
    ):
        refused = CliRunner().invoke(app, [*words, *more])
        assert refused.exit_code == 2
        assert said in " ".join(refused.stderr.split())


def test_today_a_search_shows_what_the_pipeline_serves(living: Path, tmp_path: Path) -> None:
    """The same requests to an engine that does not explore: video by video."""
    offered, crowd = offer(living / "log", living / "DATASET", living / "run", visits=1)
    assert offered.viewer.size > 30
    assert np.unique(offered.viewer).size == offered.viewer.size
    shown = SimulatedSlates(offered, crowd, Trade(at=4, trials=10)).shown(ScoreWeights())
    settings = apply_settings(loop_settings(0), {"slate": {"explore_share": 0.0}})
    store = open_store(f"sqlite:{tmp_path / 'state.db'}")
    prepare_state(living / "run", living / "DATASET", store, settings.state)
    now_ms = int(offered.started_ms.min())
    engine = open_engine(living / "run", living / "DATASET", store, settings, lambda: now_ms)
    surfaces = crowd.settings.habits.surfaces
    for row in range(30):
        request = FeedRequest(
            viewer_id=f"u{offered.viewer[row]}",
            k=4,
            surface=surfaces[offered.surface[row]],
            requested_at_ms=int(offered.started_ms[row]),
        )
        served = [int(item.video_id[1:]) for item in engine.feed(request, f"q{row}").items]
        assert shown[row].tolist() == served
    store.close()


def test_seeds_are_pooled_by_their_errors() -> None:
    def effect(relative: float, half: float) -> Effect:
        nothing = dict.fromkeys(
            ("control_mean", "treatment_mean", "effect", "standard_error", "low", "high"), 0.0
        )
        return Effect(
            metric="glance_rate", treatment="choice", day=0, always_low=0.0, always_high=0.0,
            always_level=0.05, p_value=1.0, relative=relative, relative_low=relative - half,
            relative_high=relative + half, **nothing,
        )  # fmt: skip

    found = pooled([effect(0.1, 0.1), effect(0.4, 0.2)])
    assert found.relative == pytest.approx((0.1 * 4 + 0.4) / 5)
    assert found.high - found.relative == pytest.approx(1 / (1 / 0.1**2 + 1 / 0.2**2) ** 0.5)
