"""How worker processes come up: one server, one state, so many processes.

    Service (what the command line was told)  ->  serve  ->  uvicorn, workers, until SIGTERM

- The state is made ready before any worker starts; a worker that dies is started again.
- What workers must know travels in one variable of the environment: paths and settings, no secrets.

Reads `app` and `engine`; is read by the command line.
"""

import dataclasses
import gc
import json
import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette

from skipwise.errors import SettingError
from skipwise.experiments.definition import read_definition
from skipwise.model.score import load_score_weights, orders
from skipwise.progress import SILENT, Progress
from skipwise.serving import door
from skipwise.serving.app import build_app
from skipwise.serving.engine import Engine
from skipwise.serving.opening import open_engine, prepare_state
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.state.store import Store, open_store, without_password
from skipwise.serving.takeover import Takeover, name_state
from skipwise.serving.telling import Say, check_port, say_exports, say_when_ready
from skipwise.serving.trial import TrialSettings
from skipwise.serving.trust import Keys, check_reach
from skipwise.serving.variants import begin, open_variants
from skipwise.serving.worker import LimitSettings, Worker
from skipwise.settings import apply_settings, check_setting, named_within, settings_to_dict
from skipwise.training.checkpoint import load_run

_VARIABLE = "SKIPWISE_SERVE"
_DRAIN_S = 15
_PATHS = ("run", "data", "keys", "weights", "follow", "experiment")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSettings:
    """Everything that can be set; `skipwise serve RUN key=value`."""

    serving: ServeSettings = field(default_factory=ServeSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    follow: TrialSettings = field(default_factory=TrialSettings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What a server is started with."""

    run: Path
    state: str
    data: Path | None = None
    keys: Path | None = None
    weights: Path | None = None
    """Score weights to begin with; they take the place of those of the state."""
    follow: Path | None = None
    """Folder in which `train --follow` publishes; its newest model is taken over."""
    experiment: Path | None = None
    """Definition whose variants answer their viewers."""
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    settings: ServiceSettings = field(default_factory=ServiceSettings)

    def __post_init__(self) -> None:
        check_setting("--port", self.port, at_least=0, at_most=65_535)
        check_setting("--workers", self.workers, at_least=1, at_most=256)
        check_reach(self.host, self.keys)
        if self.follow is not None and self.experiment is not None:
            raise SettingError(
                "--follow and --experiment are given together; models must not change while an "
                "experiment runs. Leave one of them out."
            )
        if self.follow is not None and self.follow.is_file():
            raise SettingError(
                f"--follow {self.follow} is a file, must be the folder that `skipwise train "
                "--follow` writes its models to (its --out). Name that."
            )


def serve(service: Service, progress: Progress = SILENT, say: Say = lambda _: None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        service: What to serve, and where.
        progress: Shows how the state is begun and models are made ready.
        say: Is told in a line what begins, and where it answers when it does.

    Raises:
        SettingError: An option is wrong.
        RunError: The run cannot be served.
        StateError: The state cannot be used.
    """
    load_run(service.run)  # what is no run is told before anything is written beside it
    if service.port:
        check_port(service.host, service.port)
    store = open_store(service.state)
    say(f"starting {service.run}, state {without_password(service.state)}")
    prepare_state(
        service.run, service.data, store, service.settings.serving.state, progress=progress
    )
    if service.settings.serving.backend == "onnx":
        say_exports(_runs(service), say)
    with progress.task("models", total=None, unit=""):
        engine = _engine(service, store)  # or say why not
    if service.weights is not None:
        begin_with(engine, service.weights)
    store.close()
    os.environ[_VARIABLE] = json.dumps(_as_values(service))
    with tempfile.TemporaryDirectory(prefix="skipwise-workers-") as folder:
        if service.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            os.environ[door.PAGE_VARIABLE] = str(Path(folder) / "connections")
            # room also for those who take over before the others have gone
            door.Counts.make(Path(folder) / "connections", 2 * service.workers)
        if service.port:
            say_when_ready(service.host, service.port, say)
        uvicorn.run(
            "skipwise.serving.serve:worker_app",
            factory=True,
            host=service.host,
            port=service.port,
            workers=service.workers,
            loop="auto" if service.workers == 1 else "skipwise.serving.door:EvenLoop",
            http="skipwise.serving.heads:BoundedHeads",
            ws="none",
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=_DRAIN_S,
            timeout_keep_alive=75,
        )


def begin_with(engine: Engine, file: Path) -> None:
    """Order by the weights of a file from now on.

    Raises:
        SettingError: It is no file of weights, or nothing could be ordered by them.
    """
    weights = load_score_weights(file)
    for model in engine.models.every():
        if not orders(weights, model.run.description["objectives"]):
            raise SettingError(
                f"{file}: no power above 0 is of anything that {model.name} predicts, so nothing "
                "can be ordered. Raise one of the powers."
            )
    engine.set_score(settings_to_dict(weights))


def worker_app() -> Starlette:
    """Make the application of a worker process from what its parent left in the environment."""
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("skipwise.serving").setLevel(logging.INFO)
    return app_of(_from_values(json.loads(os.environ[_VARIABLE])))


def app_of(service: Service) -> Starlette:
    """Make the application of one process.

    Raises:
        SkipwiseError: It cannot be served.
    """
    torch.set_num_threads(1)
    engine = _engine(service, open_store(service.state))
    keys = None if service.keys is None else Keys(service.keys)
    gc.collect()
    gc.freeze()  # what is there now stays, and need not be looked through again and again
    worker = Worker(engine, keys, service.settings.limits)
    if service.follow is not None:
        worker.takeover = Takeover(engine, service.follow, service.settings.follow)
    return build_app(worker)


def _runs(service: Service) -> list[Path]:
    """Name the models that answer from the start."""
    if service.experiment is None:
        return [service.run]
    definition = read_definition(service.experiment)
    return [service.run, *(definition.folder / each.model for each in definition.variants)]


def _engine(service: Service, store: Store) -> Engine:
    settings = service.settings.serving
    with named_within("serving.", [each.name for each in dataclasses.fields(settings)]):
        engine = open_engine(service.run, service.data, store, settings, followed=service.follow)
    if service.follow is not None:
        name_state(store)  # before there are several processes
    if service.experiment is not None:
        definition = read_definition(service.experiment)
        begin(store, definition)
        engine.variants = open_variants(definition, engine.models)
        engine.heed_experiment()
    return engine


def _as_values(service: Service) -> dict[str, Any]:
    values = {field.name: getattr(service, field.name) for field in dataclasses.fields(service)}
    for name in _PATHS:
        values[name] = None if values[name] is None else str(values[name])
    return values | {"settings": settings_to_dict(service.settings)}


def _from_values(values: dict[str, Any]) -> Service:
    for name in _PATHS:
        values[name] = None if values[name] is None else Path(values[name])
    settings = apply_settings(ServiceSettings(), values.pop("settings"))
    return Service(**values, settings=settings)
