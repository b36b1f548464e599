"""Which models answer whom, and how that is changed for every process at once.

    POST /v1/models, `takeover`  ->  Models.change | try_out | end_trial  ->  LineUp in the store
    LineUp                       ->  Models.follow  ->  the same in every process

- Taking over is one assignment: a request holds on to the model it began with.
- The line-up is a document of the store, so that all processes follow it and a restart remembers.
- A model on trial is a canary that the server itself has let in, and will itself keep or roll back.

Reads `models` and `world`; is read by `engine` and `takeover`.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from skipwise.errors import RunError, SkipwiseError
from skipwise.features.dataset import Dataset
from skipwise.serving.models import Served, load_model
from skipwise.serving.names import name_of
from skipwise.serving.seed import now_ms
from skipwise.serving.state.store import Store
from skipwise.serving.world import DocumentChanged, World, pack_line
from skipwise.training.checkpoint import MODEL_FILE, read_description

LINE_UP = "models"
_CANARY_PARTS = 10_000
_REMEMBERED, _TOLD = 200, 20


class Told(msgspec.Struct, frozen=True):
    """Something the server did about a published model."""

    at_ms: int
    what: str
    """tried, kept, rolled back."""
    run: str
    why: str


class LineUp(msgspec.Struct, frozen=True):
    """Names of RUN folders beside the first one, or in the folder that is followed."""

    current: str
    previous: str | None = None
    canary: str | None = None
    canary_share: float = 0.0
    started_with: str = ""
    """Checksum of the run on the command line: another one there starts a new line-up."""
    trial: str = ""
    """Checksum of the canary where the server itself tries it."""
    trial_since_ms: int = 0
    tried: tuple[str, ...] = ()
    """Checksums of models that were on trial, or rolled back by hand: none is taken up again."""
    told: tuple[Told, ...] = ()
    """Oldest first."""

    @property
    def named(self) -> tuple[str, ...]:
        """Return the models that answer, or may be gone back to."""
        named = (self.current, self.previous, self.canary)
        return tuple(name for name in named if name is not None)

    @property
    def trial_name(self) -> str:
        """Name the trial that is on; empty where none is."""
        return f"{self.trial}:{self.trial_since_ms}" if self.trial else ""


class Models:
    """The models of one process."""

    def __init__(
        self,
        first: Served,
        world: World,
        store: Store,
        dataset: Dataset | None,
        today: Callable[[], int],
        followed: Path | None = None,
    ) -> None:
        """Begin with one model.

        Args:
            first: The run on the command line.
            world: What models rank.
            store: Holds the line-up.
            dataset: For models to come.
            today: Says which local calendar day it is.
            followed: Where models are published, besides the folder of the first.
        """
        self.world, self.store, self.dataset, self.today = world, store, dataset, today
        self.backend = first.backend.name
        self.folder, self.followed = first.run.path.resolve().parent, followed
        self._loaded = {first.name: first}
        self._ahead: Served | None = None
        self._lock = threading.Lock()
        self.problem: str | None = None
        """Why this process could not follow the line-up; None when it has."""
        self.version = 0
        self.line_up = LineUp(current=first.name, started_with=first.checksum)
        self._serving: tuple[Served, Served | None, float] = (first, None, 0.0)
        self._first = first
        self.beside: tuple[Served, ...] = ()
        """Models that answer besides: those of an experiment's variants."""
        self.before_change: Callable[[LineUp, LineUp], None] = lambda *_: None
        """Told of the line-up as it is and as it is to be, before a model is looked for."""

    def serving(self, viewer_id: str) -> tuple[Served, str]:
        """Return the model that answers a viewer, and its variant's name."""
        current, canary, share = self._serving
        if canary is not None:
            part = name_of(f"canary\0{canary.checksum}\0{viewer_id}") % _CANARY_PARTS
            if part < share * _CANARY_PARTS:
                return canary, "canary"
        return current, "current"

    def every(self) -> tuple[Served, ...]:
        """Return every model that answers someone."""
        current, canary, _ = self._serving
        return (current, *(() if canary is None else (canary,)), *self.beside)

    def refresh(self) -> bool:
        """Build the indexes anew that are old; returns whether any was."""
        day = self.today()
        old = [model.finder for model in self.every() if model.finder.stale(day)]
        for finder in old:
            finder.build(self.world, day)
        return bool(old)

    @property
    def finding_problem(self) -> str | None:
        """Say which model cannot find videos by its own vectors, and why; None where all can."""
        for model in self.every():
            if model.finder.problem is not None:
                return f"{model.name}: {model.finder.problem}"
        return None

    def follow(self) -> None:
        """Take over the line-up of the store; a model that cannot be taken is told in `problem`.

        Raises:
            StateError: The store cannot be read.
        """
        with self._lock:
            self._follow()

    def tell_line_up(self) -> None:
        """Tell `before_change` of the line-up as it is, while nobody changes it."""
        with self._lock:
            self.before_change(self.line_up, self.line_up)

    def runs(self) -> tuple[str, ...]:
        """Return the names of what could be swapped in."""
        found = (path.parent.name for at in self._folders() for path in at.glob("*/run.json"))
        return tuple(sorted(name for name in found if not name.startswith(".")))  # put aside

    def objectives_of(self, name: str) -> tuple[str, ...]:
        """Return what a run says it predicts, before it is loaded.

        Raises:
            RunError: There is no such run, or it is damaged.
        """
        return tuple(read_description(self._path_of(name))["objectives"])

    def _folders(self) -> list[Path]:
        return [self.folder, *([self.followed] if self.followed else [])]

    def load_ahead(self, name: str) -> Served:
        """Read a model and let it prove itself before anyone is answered by it.

        Raises:
            RunError: There is no such run, or it does not prove itself.
        """
        self._ahead = self._read(name)
        return self._ahead

    def change(self, action: str, run: str | None, share: float) -> LineUp:
        """Change the line-up for every process: swap, canary or roll back.

        Raises:
            RunError: There is no such run, it does not prove itself, or nothing to go back to.
            StateError: The store is out of reach.
        """
        return self._put(lambda now: self._changed(now, action, run, share))

    def try_out(self, model: Served, share: float, why: str) -> LineUp:
        """Let a published model answer a share of viewers, until `end_trial`.

        Raises:
            RunError: It is no longer what it was when it was loaded.
            StateError: The store is out of reach.
        """

        def changed(now: LineUp) -> LineUp:
            if now.canary is not None or model.checksum in now.tried:
                return now
            return msgspec.structs.replace(
                now,
                canary=model.name,
                canary_share=share,
                trial=model.checksum,
                trial_since_ms=now_ms(),
                tried=_remembered(now, model.checksum),
                told=_with(now, "tried", model.name, why),
            )

        return self._put(changed)

    def end_trial(self, trial: str, *, keep: bool, why: str) -> LineUp:
        """Give all viewers to the model on trial, or none; nothing where another trial is on.

        Raises:
            StateError: The store is out of reach.
        """

        def changed(now: LineUp) -> LineUp:
            if now.trial_name != trial or now.canary is None:
                return now
            over = msgspec.structs.replace(
                _without_canary(now),
                told=_with(now, "kept" if keep else "rolled back", now.canary, why),
            )
            if not keep:
                return over
            return msgspec.structs.replace(over, current=now.canary, previous=now.current)

        return self._put(changed)

    def _put(self, changed: Callable[[LineUp], LineUp]) -> LineUp:
        with self._lock:
            self._follow()
            line_up = changed(self.line_up)
            if line_up is self.line_up:
                return line_up
            self.before_change(self.line_up, line_up)
            self._take(line_up)
            self.version = self.store.put(
                LINE_UP, msgspec.json.encode(line_up), pack_line(DocumentChanged(LINE_UP))
            )
            self.problem = None
        return line_up

    def _follow(self) -> None:
        document = self.store.get(LINE_UP)
        if document is None or document.version == self.version:
            return
        line_up = msgspec.json.decode(document.value, type=LineUp)
        if line_up.started_with != self._first.checksum:
            return
        try:
            self._take(line_up)
            self.problem = None
        except SkipwiseError as problem:
            self.problem = str(problem)
        self.version = document.version

    def _changed(self, now: LineUp, action: str, run: str | None, share: float) -> LineUp:
        if action == "roll_back":
            back = _without_canary(now)
            if now.canary is not None:
                gone = self._load(now.canary)
                return msgspec.structs.replace(back, tried=_remembered(now, gone.checksum))
            if now.previous is None:
                raise RunError(
                    f"{now.current} is the first model; going back needs an earlier one. "
                    "Swap to another run instead."
                )
            gone = self._load(now.current)
            return msgspec.structs.replace(
                back,
                current=now.previous,
                previous=now.current,
                tried=_remembered(now, gone.checksum),
            )
        if run is None:
            raise RunError(f"{action} names no run; it must name a RUN folder. Add `run`.")
        if action == "canary":
            return msgspec.structs.replace(_without_canary(now), canary=run, canary_share=share)
        return msgspec.structs.replace(_without_canary(now), current=run, previous=now.current)

    def _take(self, line_up: LineUp) -> None:
        current = self._load(line_up.current)
        canary = None if line_up.canary is None else self._load(line_up.canary)
        self._serving = (current, canary, line_up.canary_share)
        self.line_up = line_up
        kept = {line_up.current, line_up.previous, line_up.canary, self._first.name}
        self._loaded = {name: model for name, model in self._loaded.items() if name in kept}

    def _load(self, name: str) -> Served:
        checksum = _checksum(self._path_of(name))
        for held in (self._loaded.get(name), self._ahead):
            if held is not None and (held.name, held.checksum) == (name, checksum):
                break
        else:
            held = self._read(name)
        self._loaded[name] = held
        return held

    def _read(self, name: str) -> Served:
        path = self._path_of(name)
        return load_model(path, self.world, self.dataset, self.backend, day=self.today())

    def _path_of(self, name: str) -> Path:
        there = [folder / name for folder in self._folders() if (folder / name).is_dir()]
        if Path(name).name == name and not name.startswith(".") and there:
            return there[0]
        beside = self.runs()
        raise RunError(
            f"run {name!r} must be the name of a RUN folder beside the first one: there "
            f"{'are' if len(beside) != 1 else 'is'} {', '.join(beside)}. Name one of them."
        )


def _without_canary(now: LineUp) -> LineUp:
    return msgspec.structs.replace(now, canary=None, canary_share=0.0, trial="", trial_since_ms=0)


def _remembered(now: LineUp, checksum: str) -> tuple[str, ...]:
    return (*now.tried, checksum)[-_REMEMBERED:]


def _with(now: LineUp, what: str, run: str, why: str) -> tuple[Told, ...]:
    return (*now.told, Told(now_ms(), what, run, why))[-_TOLD:]


def _checksum(path: Path) -> str:
    return str(read_description(path)["checksums"][MODEL_FILE])
