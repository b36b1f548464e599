"""How a server takes over what `train --follow` publishes, and takes back what is worse.

    FOLDER/latest.json  ->  loaded, proven  ->  on trial with a share of viewers
                        ->  kept: answers all     |  worse: rolled back, never taken up again

- Every process loads and proves a model on its own before any answers by it; who is first says so
  in the store, once for all.
- What cannot be loaded is refused, told in `/ready`, and looked at again only when it has changed.
- What answers is marked as served in the folder first, whoever lets it in, so that the trainer
  keeps it (`training.published`).
- While an operator tries a canary of his own, nothing is taken up.

Reads `line_up`, `trial` and `metrics`; is read by `worker` and `app`.
"""

import json
import logging
import os
import secrets
from pathlib import Path

import numpy as np

from skipwise.errors import RunError, SkipwiseError, StorageError
from skipwise.serving import metrics
from skipwise.serving.engine import Engine
from skipwise.serving.line_up import LineUp
from skipwise.serving.models import Served
from skipwise.serving.seed import now_ms
from skipwise.serving.state.store import Entry, Store
from skipwise.serving.trial import Judgement, TrialSettings, judge
from skipwise.serving.wire import ArmFigures, ModelDocument, ToldOfModel, TrialDocument
from skipwise.serving.world import Tallied, pack_line
from skipwise.training.checkpoint import MODEL_FILE, RUN_FILE, read_description
from skipwise.training.published import LATEST_FILE, mark_served

PROBLEM, _MARK_PROBLEM = "follow", "follow: marks"
_NAME_DOCUMENT = "state name"
_SAY_AFTER_VIEWS = 100
_SAY_AFTER_LOOKS = 5

log = logging.getLogger("skipwise.serving")


class Takeover:
    """What one process does about published models; `look` is called again and again."""

    def __init__(self, engine: Engine, folder: Path, settings: TrialSettings) -> None:
        self.engine, self.folder, self.settings = engine, folder, settings
        self.process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.judgement: Judgement | None = None
        """Of the trial that is on, as of the last look."""
        self._refused: tuple[int, ...] = ()
        """When the newest files were written that could not be taken."""
        self._waiting: Served | None = None
        """Loaded, and to be let in at the next look, when the other processes have it too."""
        self._looks = self._said = 0
        self._state, self._served = name_state(engine.store), frozenset[str]()
        engine.models.before_change = self._mark_served

    def look(self) -> None:
        """Take up the newest model, or see how the one on trial does.

        Raises:
            StateError: The state is out of reach.
            StorageError: The disk is full.
        """
        self._looks += 1
        line_up = self.engine.models.line_up
        self.engine.models.tell_line_up()
        tally = self.engine.tally
        if line_up.trial:
            current = self.engine.models.every()[0].checksum
            tally.begin(line_up.trial_name, (current, line_up.trial))
            self._judge(line_up)
            return
        tally.begin("", ("", ""))
        self.judgement = None
        if line_up.canary is None:
            self._take_up(line_up)

    def _take_up(self, line_up: LineUp) -> None:
        if self._waiting is not None:
            model, self._waiting = self._waiting, None
            if not (self.folder / model.name / RUN_FILE).is_file():
                return  # the trainer has published so many since that this one is gone
            if _first_to(self.engine.store, f"try {model.checksum}"):
                until = model.run.description.get("followed", {}).get("events")
                why = "newest in the folder" if until is None else f"has learnt {until:,} events"
                self.engine.models.try_out(model, self.settings.share, why)
                metrics.TAKEOVERS.labels("tried").inc()
            return
        try:
            name = self._newest()
            if name is None or not self._is_new(name, line_up):
                return
            self._waiting = self.engine.models.load_ahead(name)
            self.engine.problems.pop(PROBLEM, None)
            self._refused = ()
        except (SkipwiseError, OSError) as problem:
            self._refused = _written_ns(self.folder)
            self.engine.problems[PROBLEM] = f"{problem} The model before it goes on answering."
            metrics.TAKEOVERS.labels("refused").inc()
            log.warning("a published model was refused: %s", problem)

    def _mark_served(self, before: LineUp, after: LineUp) -> None:
        """Say in the folder what answers, or may be gone back to, where it is other than said."""
        names = {name for each in (before, after) for name in each.named}
        served = frozenset(name for name in names if (self.folder / name).is_dir())
        if served == self._served:
            return
        try:
            mark_served(self.folder, self._state, served)
            self._served = served
            self.engine.problems.pop(_MARK_PROBLEM, None)
        except StorageError as problem:
            self.engine.problems[_MARK_PROBLEM] = (
                f"{problem} The trainer cannot know which models answer, and may delete them."
            )

    def _is_new(self, name: str, line_up: LineUp) -> bool:
        if self._refused and _written_ns(self.folder) == self._refused:
            return False
        checksum = read_description(self.folder / name)["checksums"][MODEL_FILE]
        current = self.engine.models.every()[0].checksum
        return checksum not in line_up.tried and checksum != current

    def _newest(self) -> str | None:
        file = self.folder / LATEST_FILE
        if self._refused and _written_ns(self.folder) == self._refused:
            return None
        if not file.is_file():
            return None
        try:
            name = json.loads(file.read_text(encoding="utf-8"))["model"]
        except (ValueError, KeyError, TypeError):
            raise RunError(
                f"{file} names no model; it must be as `skipwise train --follow` writes it. Give "
                "its --out folder as --follow."
            ) from None
        if not isinstance(name, str) or Path(name).name != name:
            raise RunError(f"{file} names {name!r}, must name a RUN folder beside it. Mend it.")
        return name

    def _judge(self, line_up: LineUp) -> None:
        tally = self.engine.tally
        late = self._looks - self._said >= _SAY_AFTER_LOOKS
        if tally.unsaid >= _SAY_AFTER_VIEWS or (tally.unsaid and late):
            self._said, tally.unsaid = self._looks, 0
            sums = tuple(np.round(tally.own, 6).ravel().tolist())
            line = pack_line(Tallied(self.process, tally.trial, sums))
            entry = Entry(f"tally {self.process} {self._looks}", "", None)
            self.engine.store.commit([entry], lambda *_: (None, [line]))
        minutes = (now_ms() - line_up.trial_since_ms) / 60_000
        judged = judge(tally.all(self.process), self.settings, minutes)
        self.judgement = judged
        if judged.decision == "open":
            return
        if not _first_to(self.engine.store, f"end {line_up.trial_name}"):
            return
        keep = judged.decision == "kept"
        self.engine.models.end_trial(line_up.trial_name, keep=keep, why=judged.words)
        metrics.TAKEOVERS.labels("kept" if keep else "rolled back").inc()
        log.warning(
            "%s %s: %s", line_up.canary, "is kept" if keep else "is rolled back", judged.words
        )


def name_state(store: Store) -> str:
    """Return the state's own name, the same for all its processes; made up at the first call."""
    held = store.get(_NAME_DOCUMENT)
    if held is None:
        store.put(_NAME_DOCUMENT, secrets.token_hex(8).encode())
        held = store.get(_NAME_DOCUMENT)
    return "" if held is None else held.value.decode()


def model_document(engine: Engine, takeover: Takeover | None, request_id: str) -> ModelDocument:
    """Tell which models serve, and what was done about published ones and stopped variants."""
    models = engine.models
    line_up = models.line_up
    return ModelDocument(
        request_id=request_id,
        version=models.version,
        current=line_up.current,
        previous=line_up.previous,
        canary=line_up.canary,
        canary_share=line_up.canary_share,
        followed=None if models.followed is None else str(models.followed),
        trial=None if takeover is None else _trial(line_up, takeover.judgement),
        told=tuple(ToldOfModel(t.at_ms, t.what, t.run, t.why) for t in line_up.told),
        refused=engine.problems.get(PROBLEM),
        stopped={}
        if engine.variants is None
        else {name: stop.why for name, stop in engine.variants.stopped.items()},
    )


def _trial(line_up: LineUp, judged: Judgement | None) -> TrialDocument | None:
    """Tell how the trial that is on does; None where none is, or nothing is known of it yet."""
    if judged is None or not line_up.trial or line_up.canary is None:
        return None

    def arm(run: str, place: int) -> ArmFigures:
        bias = {name: _known(pair[place]) for name, pair in judged.bias.items()}
        return ArmFigures(run, judged.views[place], _known(judged.skip_rate[place]), bias)

    return TrialDocument(
        since_ms=line_up.trial_since_ms,
        decision=judged.decision,
        words=judged.words,
        current=arm(line_up.current, 0),
        canary=arm(line_up.canary, 1),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _first_to(store: Store, what: str) -> bool:
    """Say whether this process is the first to do something this minute.

    Of a minute, so that one which dies between saying and doing stops nobody for longer.
    """
    entry = Entry(f"first {what} {now_ms() // 60_000}", "", None)
    return store.commit([entry], lambda *_: (None, [b""]))[0]


def _written_ns(folder: Path) -> tuple[int, ...]:
    """Return when the files that decide were written: a change of any is a reason to look again."""
    files = [folder / LATEST_FILE]
    try:
        name = str(json.loads(files[0].read_text(encoding="utf-8"))["model"])
        files += [folder / name / part for part in (RUN_FILE, MODEL_FILE)]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return tuple(map(_file_written_ns, files))


def _file_written_ns(file: Path) -> int:
    """Return when a file was written; 0 where it is not, or no longer, there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
