"""How an engine comes up: a state seeded once, and what each process makes of it.

    RUN, DATASET, empty Store  ->  prepare_state  ->  seeded, before any process serves
    Store of a running server  ->  join_state     ->  for a trainer, or a watch over an experiment
    RUN, DATASET, Store        ->  open_engine    ->  Engine

- Snapshot, then posted videos, then the log since: what a restart costs does not grow with age.

Reads `seed`, `snapshot`, `models`; is read by `serve` and the command line.
"""

from pathlib import Path

import msgspec

from skipwise.errors import SettingError, StateError
from skipwise.features.known import clock_day_of
from skipwise.progress import SILENT, Progress
from skipwise.serving.catalogue import LiveCatalogue, VideoFacts
from skipwise.serving.engine import VIDEO_PREFIX, Clock, Engine
from skipwise.serving.line_up import Models
from skipwise.serving.models import load_model, open_dataset
from skipwise.serving.rules import Rules
from skipwise.serving.seed import LOG_END_DOCUMENT, SEEDED_DOCUMENT, LogEnd, now_ms, seed
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.snapshot import WORLD_DOCUMENT, pack_world, restore_world
from skipwise.serving.state.store import StateSettings, Store, open_store, without_password
from skipwise.serving.world import VideoPosted, World
from skipwise.training.checkpoint import read_description


def prepare_state(
    run: Path, data: Path | None, store: Store, settings: StateSettings, progress: Progress = SILENT
) -> None:
    """Seed an empty state from the dataset, once, before any process serves.

    Raises:
        StateError: The state holds another dataset.
    """
    dataset = open_dataset(data, run)
    seeded = store.get(SEEDED_DOCUMENT)
    if seeded is not None:
        told = seeded.value.decode()
        if data is not None and dataset is not None and told != dataset.fingerprint:
            raise StateError(
                f"the state was seeded from dataset {told[:12]}, --data is "
                f"{dataset.fingerprint[:12]}; they must be the same. Leave --data out, or give "
                "another --state."
            )
        return
    rules = Rules.of(read_description(run)["dataset"])
    catalogue = LiveCatalogue(rules.labels)
    if dataset is not None:
        catalogue = LiveCatalogue.of_dataset(rules.labels, dataset)
        seed(dataset, World(rules, catalogue), store, settings, progress=progress)
    else:
        store.put(WORLD_DOCUMENT, pack_world(World(rules, catalogue)))
        store.put(SEEDED_DOCUMENT, b"nothing")


def join_state(url: str) -> Store:
    """Open the state of a server that has begun, for whoever reads along.

    Raises:
        SettingError: It is neither `sqlite:PATH` nor `redis://...`.
        StateError: No server has begun it, or it cannot be reached.
    """
    path = url.removeprefix("sqlite:")
    begun = path == url or Path(path).is_file()
    store = open_store(url) if begun else None
    if store is None or store.get(SEEDED_DOCUMENT) is None:
        raise StateError(
            f"{without_password(url)} is no state that a server has begun; it must be. Give what "
            "`skipwise serve --state` was given, or start that first."
        )
    return store


def open_engine(
    run: Path,
    data: Path | None,
    store: Store,
    settings: ServeSettings | None = None,
    clock: Clock = now_ms,
    followed: Path | None = None,
) -> Engine:
    """Make the engine of one process from a state that `prepare_state` has seen.

    Raises:
        RunError: The run is damaged or does not prove itself.
        SettingError: Fewer events are kept than the model reads.
        StateError: The state is damaged, or was kept for another model.
    """
    settings = settings or ServeSettings()
    dataset = open_dataset(data, run)
    rules = Rules.of(read_description(run)["dataset"])
    catalogue = (
        LiveCatalogue(rules.labels)
        if dataset is None
        else LiveCatalogue.of_dataset(rules.labels, dataset)
    )
    world = World(rules, catalogue)
    snapshot = store.get(WORLD_DOCUMENT)
    if snapshot is not None:
        restore_world(world, snapshot.value)
    for name in store.names(VIDEO_PREFIX):
        document = store.get(name)
        if document is not None:
            world.take(VideoPosted(msgspec.json.decode(document.value, type=VideoFacts)))
    world.follow(store)
    world.changed_videos.clear()
    reach = read_description(run)["settings"]["model"]["encoder"]["history_length"]
    if reach > settings.state.keep_events:
        raise SettingError(
            f"state.keep_events = {settings.state.keep_events}, must be at least the model's "
            f"history of {reach}. Raise it.",
            name="state.keep_events",
        )
    if settings.clock == "log":
        clock = _going_on(store, clock)

    def today() -> int:
        return clock_day_of(clock(), rules.time_zone)

    first = load_model(run, world, dataset, settings.backend, day=today())
    models = Models(first, world, store, dataset, today, followed)
    return Engine(world, store, models, settings, clock)


def _going_on(store: Store, clock: Clock) -> Clock:
    """Let time go on from the end of the log; a second after it, so that nothing is hidden."""
    document = store.get(LOG_END_DOCUMENT)
    log = LogEnd(0, 0)
    if document is not None:
        log = msgspec.json.decode(document.value, type=LogEnd)
    if not log.ended_at_ms:
        return clock
    behind_ms = max(0, log.seeded_at_ms - log.ended_at_ms - 1000)
    return lambda: clock() - behind_ms
