"""A trained feed to look at, and a browser to look with."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from skipwise.cli.experiments import analyse_command
from skipwise.cli.tuning import tune_command
from skipwise.experiments.definition import read_definition
from skipwise.features.dataset import Dataset, iso_day
from skipwise.loop.closed import loop_settings, run_closed_loop
from skipwise.model.score import ScoreWeights, save_score_weights
from skipwise.serving.pipeline import SlateSettings
from skipwise.serving.serve import Service, ServiceSettings
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import START, open_store
from skipwise.serving.trust import add_key
from skipwise.serving.wire import Event
from skipwise.serving.world import Viewed, read_line
from skipwise.settings import apply_settings
from skipwise.simulation.world import WorldSettings
from skipwise.training.checkpoint import TrainedRun, load_run
from tests.serving.running import PATIENT, Client, running
from tests.training.trained import short_run
from tests.worlds import prepared_world

HERE = Path(__file__).resolve().parent
Play = Callable[..., Any]
TASTES = WorldSettings(
    viewers=200, videos=400, authors=80, topics=5, days=3, views_per_viewer_day=16.0,
    taste_strength=3.0, seed=5,
)  # fmt: skip
LIVING = WorldSettings(
    viewers=120, videos=150, authors=20, topics=6, days=4, views_per_viewer_day=12.0,
    living=True, seed=4,
)  # fmt: skip
EXPERIMENT = """
name = "scores"
start = 2024-03-08
days = 3
control = "control"
covariate_days = 0
minimum_viewers = 10
variants = [
  {name = "control", share = 0.5, model = "run"},
  {name = "skips-alone", share = 0.5, model = "run", score = "skip.json"},
]
metrics = [{name = "glance_rate", minimum_effect = 0.02}, {name = "watch_per_viewer"}]
"""
SERVING = ServiceSettings(
    serving=ServeSettings(clock="log", slate=SlateSettings(explore_share=0.0, per_topic=10)),
    limits=PATIENT.limits,
)
FLAGS = ("liked", "followed", "shared", "disliked")
STATES: dict[str, str] = {}
"""Where each server that runs has its state, by its address."""


class Locked(NamedTuple):
    """A server that asks for keys."""

    client: Client
    keys: dict[str, str]


def base_of(client: Client) -> str:
    return str(client.base_url).rstrip("/")


def kept_of(client: Client, viewer_id: str) -> list[Event]:
    """Return a viewer's events as the server's log has them, in the order of showing."""
    store = open_store(STATES[base_of(client)])
    events: list[Event] = []
    cursor = START
    while lines := store.follow(cursor):
        cursor = lines[-1].cursor
        for line in filter(None, (each.payload for each in lines)):
            read = read_line(line)
            if isinstance(read, Viewed) and read.event.viewer_id == viewer_id:
                events.append(read.event)
    store.close()
    return sorted(events, key=lambda event: event.shown_at_ms)


def require(what: str | None, message: str) -> str:
    """Skip, or fail in CI, where something is not there."""
    if what is None:
        if os.environ.get("SKIPWISE_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    return what


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    """Where a running browser listens; skips (fails in CI) without node, chromium or packages."""
    node = require(shutil.which("node"), "node is not installed; Debian has it as nodejs")
    chromium = require(shutil.which("chromium"), "chromium is not installed; Debian has it")
    there = "yes" if (HERE / "node_modules" / "playwright-core").is_dir() else None
    require(there, "tests/browser/node_modules is missing; run make browser")
    process = subprocess.Popen(  # noqa: S603
        [node, "browser.mjs", chromium],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    yield process.stdout.readline().strip()
    process.communicate(timeout=20)


@pytest.fixture(scope="session")
def play(browser: str) -> Play:
    """Play a scenario of `scenarios.mjs`; returns what it tells."""

    def played(name: str, **given: Any) -> Any:
        done = subprocess.run(  # noqa: S603
            ["node", "scenarios.mjs", browser, name, json.dumps(given)],  # noqa: S607
            cwd=HERE,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return played


@pytest.fixture(scope="session")
def tasted_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A simulated catalogue of five topics, with viewers who care for topics."""
    return prepared_world(tmp_path_factory.mktemp("tasted"), TASTES)


@pytest.fixture(scope="session")
def tasted_run(tasted_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A model that has had a few seconds to learn it."""
    return short_run(
        tasted_dataset,
        tmp_path_factory.mktemp("tasted_run") / "run",
        *("passes_at_most=6", "tokens_per_batch=2048", "model.width=16", "refit=false"),
        "optimizer.learning_rate=0.01",
    )


@pytest.fixture(scope="session")
def tasted_feed(
    tasted_dataset: Dataset, tasted_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server of the model that has learnt tastes."""
    with served(tasted_run, tasted_dataset, tmp_path_factory.mktemp("tasted_feed")) as client:
        yield client


@pytest.fixture(scope="session")
def feed(
    small_dataset: Dataset, small_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server of a model that knows next to nothing, for all that does not need more."""
    with served(small_run, small_dataset, tmp_path_factory.mktemp("feed")) as client:
        yield client


@pytest.fixture(scope="session")
def locked(
    small_dataset: Dataset, small_run: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    keys = {
        "viewer": add_key(folder / "keys.json", "viewer", ["feed", "events"]),
        "admin": add_key(folder / "keys.json", "admin", ["feed", "events", "admin"]),
    }
    with served(small_run, small_dataset, folder, folder / "keys.json") as client:
        client.headers["authorization"] = f"Bearer {keys['admin']}"
        yield Locked(client, keys)


@pytest.fixture
def beside(small_run: TrainedRun, small_dataset: Dataset, tmp_path: Path) -> Iterator[Client]:
    """A server of the run `first`, beside which lies `second`."""
    folder = tmp_path / "runs"
    shutil.copytree(small_run.path, folder / "first")
    short_run(small_dataset, folder / "second", "seed=5", last_day=small_dataset.days[1] - 2)
    with served(load_run(folder / "first"), small_dataset, tmp_path) as client:
        yield client


@pytest.fixture(scope="session")
def experimented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of a run beside which lie an experiment on living viewers and a search."""
    folder = tmp_path_factory.mktemp("experimented")
    dataset = prepared_world(folder, LIVING)
    run = short_run(dataset, folder / "run", "passes_at_most=1", last_day=dataset.days[1] - 2)
    save_score_weights(folder / "skip.json", ScoreWeights(glance_power=50.0, watch_power=0.0))
    (folder / "scores.toml").write_text(EXPERIMENT, encoding="utf-8")
    small = apply_settings(loop_settings(0), {"slate": {"candidates": 30, "explore_share": 0.1}})
    definition = read_definition(folder / "scores.toml")
    run_closed_loop(folder / "log", dataset.path, definition, folder / "lived", settings=small)
    analyse_command(folder / "scores.toml", folder / "lived", folder / "result")
    last = dataset.days[1]
    days = iso_day(last - 1), iso_day(last)
    trade = ["trials=20", "at=2"]
    tune_command(run.path, folder / "tuned", *days, overrides=trade)
    with served(run, dataset, tmp_path_factory.mktemp("experimented_state")) as client:
        yield client


@contextlib.contextmanager
def served(
    run: TrainedRun, dataset: Dataset, folder: Path, keys: Path | None = None
) -> Iterator[Client]:
    """Serve a run; pages may be ahead of the server's clock, for in tests they jump in time."""
    service = Service(
        run=run.path,
        data=dataset.path,
        state=f"sqlite:{folder / 'state.db'}",
        keys=keys,
        settings=SERVING,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skipwise.serving.engine.FUTURE_MS", 86_400_000)
        with running(service) as client:
            STATES[base_of(client)] = service.state
            yield client
