"""One process's answer to every question, without a word of HTTP.

    RankRequest | FeedRequest  ->  Engine.rank | feed  ->  Slate
    EventBatch                 ->  Engine.keep         ->  (new, duplicate)

- Each answer begins by following the log, so an event acknowledged anywhere is in it.
- What cannot be had is done without, and said: `degraded` of a slate, `problems` for `/ready`.
- Time comes from a clock that is given; a viewer's own time never goes back.

Reads `intake`, `models`, `pipeline`, `state` and `serve_settings`; is read by `worker`. `opening`
makes one.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from skipwise.errors import StateError
from skipwise.features.known import clock_day_of
from skipwise.labels.feedback import Feedback
from skipwise.labels.watch import LABELS
from skipwise.model.score import ScoreWeights
from skipwise.serving.catalogue import STRANGERS, VideoFacts
from skipwise.serving.encodings import Encodings
from skipwise.serving.intake import Intake, day_of, hour_of
from skipwise.serving.line_up import LINE_UP, Models
from skipwise.serving.metrics import Promises, count_view, timed
from skipwise.serving.models import Served
from skipwise.serving.past import Past, known_outcomes
from skipwise.serving.pipeline import FEED, RANK, Situation, Step, items_of
from skipwise.serving.retrieval import ONE_LIST_BELOW
from skipwise.serving.rows import Ask
from skipwise.serving.serve_settings import ServeSettings
from skipwise.serving.showing import described
from skipwise.serving.snapshot import WORLD_DOCUMENT, pack_world
from skipwise.serving.state.store import START, Store
from skipwise.serving.trial import Tally
from skipwise.serving.variants import EXPERIMENT_DOCUMENT, Variants
from skipwise.serving.wire import (
    Asking,
    EventBatch,
    FeedRequest,
    HeldEvent,
    RankRequest,
    Removed,
    Slate,
)
from skipwise.serving.world import (
    DocumentChanged,
    Tallied,
    VideoPosted,
    Viewed,
    ViewerForgotten,
    World,
    pack_line,
)
from skipwise.settings import apply_settings, settings_to_dict

SCORE_DOCUMENT = "score"
VIDEO_PREFIX = "video/"
FUTURE_MS = 5 * 60_000
"""How far ahead of this clock a time may be."""
_LAST_KNOWN, _PROMISED = 2000, 20  # viewers; places whose chances are held against what happens
SNAPSHOT_EVERY = 20_000
"""Lines of the log after which the world is written down."""


Clock = Callable[[], int]


class Engine:
    """See the module header."""

    def __init__(
        self, world: World, store: Store, models: Models, settings: ServeSettings, clock: Clock
    ) -> None:
        self.world, self.store, self.models = world, store, models
        self.settings, self.clock = settings, clock
        self.intake = Intake(world, store, settings.state, settings.negatives)
        self.random = np.random.default_rng(settings.seed)
        self.encodings = Encodings(settings.encoded_viewers)
        self.weights, self.score_version = ScoreWeights(), 0
        self.promises, self.tally = Promises(), Tally()
        self.variants: Variants | None = None
        """Of an experiment, where one is served."""
        world.on_view, world.on_tallied = self._meet, self._hear
        self.problems: dict[str, str] = {}
        """What this process does without, by part; told in `/ready`."""
        self._last_known: OrderedDict[str, bytes | None] = OrderedDict()
        self._lines = self._written_lines = 0
        self._written_until = START
        """The log up to here is in a snapshot, so it may be cut."""
        self._read_documents({SCORE_DOCUMENT, LINE_UP})
        self.refresh()

    def keep(self, batches: Sequence[EventBatch]) -> list[tuple[int, int]]:
        """Keep batches of events; returns (new, duplicate) of each. They are on disk then.

        Raises:
            StateError: The state is out of reach.
            StorageError: The disk is full; nothing was kept.
        """
        counts, kept = self.intake.keep(batches)
        for line in kept:
            count_view(line.event.watch_ms, known_outcomes(line.known, line.positive))
        self.problems.pop("state", None)
        return counts

    def rank(self, request: RankRequest, request_id: str, *, cheap: bool = False) -> Slate:
        """Order the candidates of a request."""
        degraded = self.catch_up()
        with self.world.lock:
            now = self.situation(request, len(request.candidates), degraded, cheap=cheap)
            now.candidates = self.world.catalogue.codes_of(request.candidates)
            now.video_ids = list(request.candidates)
            return self._answer(now, RANK, request_id, degraded, explain=request.explain)

    def feed(self, request: FeedRequest, request_id: str, *, cheap: bool = False) -> Slate:
        """Make a slate."""
        degraded = self.catch_up()
        if len(self.world.catalogue) < STRANGERS + ONE_LIST_BELOW:
            self.refresh()  # in a moment; with more videos the worker does it beside the requests
        with self.world.lock:
            now = self.situation(request, request.k, degraded, cheap=cheap)
            now.blocked_authors = frozenset(request.blocked_authors)
            slate = self._answer(now, FEED, request_id, degraded, explain=request.explain)
            return described(slate, self.world.catalogue) if request.describe else slate

    def held(self, viewer_id: str) -> tuple[Past, tuple[HeldEvent, ...]] | None:
        """Return what is held of a viewer; None where nothing is.

        Raises:
            StateError: The state is out of reach.
        """
        data = self.store.read(viewer_id)
        if data is None:
            return None
        self.catch_up()
        past = self.intake.past_of(data)
        with self.world.lock:
            codes = self.world.catalogue.codes(past.events["video"])
            return past, tuple(
                HeldEvent(
                    video_id=self.world.catalogue.video_ids[code],
                    shown_at_ms=int(event["shown_at_ms"]),
                    feedback=Feedback(int(event["feedback"])).name.lower(),
                    watch_s=None if np.isnan(event["watch_s"]) else float(event["watch_s"]),
                )
                for code, event in zip(codes.tolist(), past.events, strict=True)
            )

    def forget(self, viewer_id: str) -> bool:
        """Forget a viewer; returns whether anything was held.

        Raises:
            StateError: The state is out of reach.
        """
        held = self.store.forget(viewer_id, pack_line(ViewerForgotten(viewer_id)))
        self._last_known.pop(viewer_id, None)
        return held

    def post(self, videos: Sequence[VideoFacts]) -> None:
        """Add videos, or change what is known of them.

        A new one whose upload time is not told was uploaded now.

        Raises:
            StateError: The state is out of reach.
            StorageError: The disk is full.
        """
        videos = [self.world.catalogue.dated(facts, self.clock()) for facts in videos]
        self.store.put_all(
            [
                (
                    f"{VIDEO_PREFIX}{facts.video_id}",
                    msgspec.json.encode(facts),
                    pack_line(VideoPosted(facts)),
                )
                for facts in videos
            ]
        )
        self.catch_up()

    def score(self) -> tuple[int, dict[str, Any]]:
        """Return the score's version and weights."""
        self.catch_up()
        return self.score_version, settings_to_dict(self.weights)

    def set_score(self, weights: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Change weights for every process; what is not named keeps its default.

        Raises:
            SettingError: An unknown weight, or one out of range.
        """
        changed = apply_settings(ScoreWeights(), weights)
        self.store.put(
            SCORE_DOCUMENT,
            msgspec.json.encode(asdict(changed)),
            pack_line(DocumentChanged(SCORE_DOCUMENT)),
        )
        return self.score()

    def write_down(self, *, at_least: int = SNAPSHOT_EVERY) -> None:
        """Write the world down when so many lines have been followed since.

        Raises:
            StateError: The state is out of reach.
            StorageError: The disk is full.
        """
        self._lines += self.world.follow(self.store)
        if self._lines - self._written_lines < at_least:
            return
        self._written_lines = self._lines
        with self.world.lock:
            cursor, packed = self.world.cursor, pack_world(self.world)
        self.store.put(WORLD_DOCUMENT, packed)
        self._written_until = cursor

    def prune(self) -> int:
        """Forget what is past its time or number; returns how many viewers were.

        Raises:
            StateError: The state is out of reach.
            StorageError: The disk is full.
        """
        return self.store.prune(self.settings.state, self.clock() // 1000, self._written_until)

    def check_time(self, at_ms: int) -> str | None:
        """Say what is wrong with a time, None where it is fine."""
        if at_ms > self.clock() + FUTURE_MS:
            return f"at most {FUTURE_MS // 60_000} minutes ahead of now ({self.clock()})"
        return None

    def catch_up(self) -> list[str]:
        """Follow the log; returns what has to be done without."""
        try:
            self._lines += self.world.follow(self.store)
            self._heed_changes()
        except StateError as problem:
            self.problems["state"] = str(problem)
            return ["state: last known"]
        self.problems.pop("state", None)
        return []

    def _heed_changes(self) -> None:
        world = self.world
        if world.changed_documents:
            changed, world.changed_documents = world.changed_documents, set()
            self._read_documents(changed)
        while world.forgotten_viewers:
            forgotten = world.forgotten_viewers.pop()
            self._last_known.pop(forgotten, None)
            self.encodings.forget(forgotten)
            if self.variants is not None:
                self.variants.exposing.forget(forgotten)
        with world.lock:
            for model in self.models.every():
                model.videos.follow(world.catalogue)
                model.finder.follow(world)
            if world.changed_videos:
                world.changed_videos = set()
                self.encodings.clear()

    def refresh(self) -> bool:
        """Make anew what a new day or many new videos have made old: thresholds and indexes.

        It may take seconds; others go on answering meanwhile. Returns whether an index was old.
        """
        self.world.prepare_thresholds()
        built = self.models.refresh()
        self.problems.pop("retrieval", None)
        if self.models.finding_problem is not None:
            self.problems["retrieval"] = self.models.finding_problem
        return built

    def _promise(self, now: Situation, request_id: str) -> None:
        chances = {
            name: values[:_PROMISED].copy()
            for name, values in now.predictions.items()
            if name in LABELS
        }
        if chances:
            self.promises.give(request_id, now.model.checksum, now.video_ids[:_PROMISED], chances)

    def _meet(self, line: Viewed) -> None:
        """Hold a view against what was promised of it; every process follows every view."""
        event, came = line.event, known_outcomes(line.known, line.positive)
        promise = self.promises.meet(event.request_id, event.video_id, came)
        if promise is not None:
            self.tally.add(promise.model, event.viewer_id, promise.chances, came)

    def _hear(self, line: Tallied) -> None:
        self.tally.hear(line.process, line.trial, line.sums)

    def _read_documents(self, names: set[str]) -> None:
        if LINE_UP in names:
            self.models.follow()
            if self.models.problem is None:
                self.problems.pop("models", None)
            else:
                self.problems["models"] = self.models.problem
        document = self.store.get(SCORE_DOCUMENT) if SCORE_DOCUMENT in names else None
        self.heed_experiment(names)
        if document is not None:
            self.weights = apply_settings(ScoreWeights(), msgspec.json.decode(document.value))
            self.score_version = document.version

    def heed_experiment(self, names: Collection[str] = (EXPERIMENT_DOCUMENT,)) -> None:
        """Take over which variants were stopped."""
        if self.variants is not None and EXPERIMENT_DOCUMENT in names:
            document = self.store.get(EXPERIMENT_DOCUMENT)
            if document is not None:
                self.variants.heed(document.value)

    def answering(self, viewer_id: str) -> tuple[Served, str, ScoreWeights]:
        """Return the model that answers a viewer, its variant's name, and its weights."""
        found = None if self.variants is None else self.variants.answering(viewer_id)
        return found or (*self.models.serving(viewer_id), self.weights)

    def _past(self, viewer_id: str, degraded: list[str]) -> Past:
        try:
            data = self.store.read(viewer_id)
        except StateError as problem:
            self.problems["state"] = str(problem)
            data = self._last_known.get(viewer_id)
            if not degraded:
                degraded.append("state: last known")
        self._last_known[viewer_id] = data
        self._last_known.move_to_end(viewer_id)
        if len(self._last_known) > _LAST_KNOWN:
            self._last_known.popitem(last=False)
        return self.intake.past_of(data)

    def situation(
        self, request: Asking, k: int, degraded: list[str], *, cheap: bool = False
    ) -> Situation:
        """Gather what a request is answered from; the world's lock must be held."""
        past = self._past(request.viewer_id, degraded)
        zone = self.world.rules.time_zone
        at_ms = request.requested_at_ms
        if at_ms is None:
            at_ms = max(self.clock(), past.touched_at_ms)
        clock_day = clock_day_of(at_ms, zone)
        ask = Ask(
            viewer_id=request.viewer_id,
            surface=request.surface or "",
            requested_at_ms=at_ms,
            clock_day=clock_day,
            day=day_of(request.day, clock_day),
            hour=hour_of(at_ms, zone),
        )
        model, _, weights = self.answering(request.viewer_id)
        return Situation(
            world=self.world,
            model=model,
            past=past,
            ask=ask,
            weights=weights,
            negatives=self.settings.negatives,
            settings=self.settings.slate,
            random=self.random,
            encodings=self.encodings,
            k=k,
            cheap=cheap,
        )

    def _answer(
        self,
        now: Situation,
        steps: Sequence[Step],
        request_id: str,
        degraded: list[str],
        *,
        explain: bool,
    ) -> Slate:
        for step in steps:
            with timed(step.__name__):
                step(now)
        self._promise(now, request_id)
        if now.cheap:
            degraded.append("model: ordered by views, for want of time")
        _, variant, _ = self.answering(now.ask.viewer_id)
        if self.variants is not None:
            ask = now.ask
            self.variants.exposing.meet(ask.viewer_id, variant, ask.requested_at_ms, ask.day)
        return Slate(
            request_id=request_id,
            variant=variant,
            model=f"{now.model.name}@{now.model.checksum[:12]}",
            score_version=self.score_version,
            items=tuple(items_of(now, explain=explain)),
            degraded=tuple(degraded),
            removed=tuple(Removed(*each) for each in now.removed) if explain else None,
        )
