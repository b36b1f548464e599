"""What one process knows of videos and of everybody: built from the log, equal in every process.

    DATASET or snapshot  ->  World  ->  follow (the log, in order)  ->  as of now

- The log is the only way in, also for what this process has accepted itself: so all processes,
  and a restart, come to the same state.
- Locked: one thread changes it, or reads it, at a time.

Reads `crowd`, `catalogue` and `state`; is read by `intake`, `models` and the pipeline.
"""

import threading
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from skipwise.features.counter_names import COUNTABLE
from skipwise.features.popularity import EffectiveCounts
from skipwise.labels.watch import LABELS
from skipwise.serving.catalogue import LiveCatalogue, VideoFacts
from skipwise.serving.crowd import Crowd, Outcome, Tallies
from skipwise.serving.rules import Rules
from skipwise.serving.state.store import START, Store
from skipwise.serving.wire import Event, LateOutcome

Sums = NDArray[np.float64]
EFFECTIVE_BIT = 1 << LABELS.index("effective")
_AT_ONCE = 500
"""Videos whose thresholds are worked out while others wait: a few ms."""
VIDEOS_AT_MOST = 20_000_000
"""Past so many, a video that only events name stays a stranger."""


class Viewed(msgspec.Struct, frozen=True, tag="viewed"):
    """A line of the log: a view, with what it was found to say."""

    event: Event
    known_at_ms: int
    known_day: int
    clock_day: int
    known: int
    """Labels that are known, as bits in the order of `LABELS`."""
    positive: int
    feedback: int
    duration_bucket: int
    watch_bin: int
    negative: float
    """What an explicit negative weighs for others."""


class Amended(msgspec.Struct, frozen=True, tag="amended"):
    """A line of the log: a late outcome, with what it adds."""

    outcome: LateOutcome
    clock_day: int
    sums: tuple[float, ...]
    negative: float


class VideoPosted(msgspec.Struct, frozen=True, tag="video"):
    """A line of the log: a video was posted or changed."""

    facts: VideoFacts


class DocumentChanged(msgspec.Struct, frozen=True, tag="document"):
    """A line of the log: a document has a new version."""

    name: str


class ViewerForgotten(msgspec.Struct, frozen=True, tag="forgotten"):
    """A line of the log: drop what you hold of a viewer."""

    viewer_id: str


class Tallied(msgspec.Struct, frozen=True, tag="tallied"):
    """A line of the log: what a process has counted of the trial that is on, from its beginning."""

    process: str
    trial: str
    sums: tuple[float, ...]
    """`trial.Sums`, flat."""


class Exposed(msgspec.Struct, frozen=True, tag="exposed"):
    """A line of the log: a viewer was given his first slate of an experiment."""

    experiment: str
    key: str
    """`assignment_key`: a changed experiment of the same name is another."""
    viewer_id: str
    variant: str
    at_ms: int
    """When he asked, UTC ms."""


Line = Viewed | Amended | VideoPosted | DocumentChanged | ViewerForgotten | Tallied | Exposed
pack_line = msgspec.msgpack.Encoder().encode
read_line = msgspec.msgpack.Decoder(Line).decode


class World:
    """See the module header."""

    def __init__(self, rules: Rules, catalogue: LiveCatalogue) -> None:
        self.rules, self.catalogue, self.crowd = rules, catalogue, Crowd(rules)
        self.negatives = Tallies(1, rules.counters.half_life_days)
        self.popularity = EffectiveCounts(len(catalogue), 0)
        """Effective views of late, for retrieval; as of the start of a day."""
        self.cursor = START
        self.lock = threading.RLock()
        self.prepared_day = self.crowd.day
        """The day whose thresholds were worked out beforehand."""
        self.num_viewed = 0
        """Views taken in from the log by this process."""
        self.lists: dict[str, tuple[int, NDArray[np.int64]]] = {}
        """Codes in some order, and the state of things they were put in order at; see `listed`."""
        self.num_given = len(catalogue)
        """Codes below came with the dataset; the others came through the log."""
        self.changed_videos: set[int] = set()
        """Codes whose facts have changed since a model last bound them."""
        self.changed_documents: set[str] = set()
        self.forgotten_viewers: set[str] = set()
        """Whom a process must not remember either."""
        self.on_view: Callable[[Viewed], None] = lambda _: None
        """Who is told of each view."""
        self.on_tallied: Callable[[Tallied], None] = lambda _: None
        """Who is told what other processes have counted of a trial."""
        self.on_exposed: Callable[[Exposed], None] = lambda _: None
        """Who is told of each first exposure."""
        self.grow()

    def follow(self, store: Store) -> int:
        """Take in what was logged since; returns how many lines.

        Raises:
            StateError: The store cannot be read.
        """
        taken = 0
        with self.lock:
            while lines := store.follow(self.cursor):
                for line in lines:
                    if line.payload:
                        self.take(read_line(line.payload))
                    self.cursor = line.cursor
                taken += len(lines)
        return taken

    def take(self, line: Line) -> None:
        """Take in one line."""
        match line:
            case Viewed():
                self._viewed(line)
            case Amended():
                self._amended(line)
            case VideoPosted(facts=facts):
                known = self.catalogue.knows(facts.video_id)
                code = self.catalogue.put(facts)
                if known:
                    self.changed_videos.add(code)
                self.grow()
            case DocumentChanged(name=name):
                self.changed_documents.add(name)
            case ViewerForgotten(viewer_id=viewer_id):
                self.forgotten_viewers.add(viewer_id)
            case Tallied():
                self.on_tallied(line)
            case Exposed():
                self.on_exposed(line)

    def grow(self) -> None:
        """Make room for every code there is."""
        catalogue = self.catalogue
        self.crowd.grow(len(catalogue), catalogue.num_authors, catalogue.num_topics)
        self.negatives.grow(len(catalogue))
        self.popularity.grow(len(catalogue))

    def prepare_thresholds(self) -> None:
        """Work out the thresholds of a new day, in parts, so that no request has to.

        The day is the newest that was asked about: a request begins a day, not a clock. Once a day:
        a watch of an earlier day makes all of them old, and then each is worked out when asked for.
        """
        with self.lock:
            day = self.crowd.day
            if day == self.prepared_day:
                return
            self.prepared_day = day
            lacking = self.crowd.lack_thresholds(len(self.catalogue))
        for start in range(0, len(lacking), _AT_ONCE):
            codes = lacking[start : start + _AT_ONCE]
            with self.lock:
                if day == self.crowd.day:
                    self.crowd.thresholds(codes, self.catalogue.duration_bucket[codes], [], day)

    def listed(
        self, name: str, stamp: int, order: Callable[["World"], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """Return codes in an order that is worked out anew when its stamp changes."""
        held = self.lists.get(name)
        if held is None or held[0] != stamp:
            held = self.lists[name] = (stamp, order(self))
        return held[1]

    def sums_of(self, known: int, positive: int) -> Sums:
        """Return what a view with these labels adds, (S,)."""
        return sums_of(self.rules, known, positive)

    def _viewed(self, line: Viewed) -> None:
        event = line.event
        self.num_viewed += 1
        self.on_view(line)
        if not self.catalogue.knows(event.video_id) and len(self.catalogue) < VIDEOS_AT_MOST:
            self.catalogue.put(VideoFacts(video_id=event.video_id, duration_ms=event.duration_ms))
            self.grow()
        code = self.catalogue.code(event.video_id)
        self.crowd.learn(
            Outcome(
                video=code,
                author=int(self.catalogue.author[code]),
                topics=self.catalogue.topic_codes(code),
                sums=self.sums_of(line.known, line.positive),
                clock_day=line.clock_day,
                known_day=line.known_day,
                duration_bucket=line.duration_bucket,
                watch_bin=line.watch_bin,
            )
        )
        if line.known & line.positive & EFFECTIVE_BIT:
            self.popularity.learn(np.array([code]), line.known_day)
        if line.negative:
            self.negatives.learn(code, np.array([line.negative]), line.clock_day)

    def _amended(self, line: Amended) -> None:
        code = self.catalogue.code(line.outcome.video_id)
        sums = np.array(line.sums)
        self.crowd.learn(
            Outcome(
                video=code,
                author=int(self.catalogue.author[code]),
                topics=self.catalogue.topic_codes(code),
                sums=sums,
                clock_day=line.clock_day,
                known_day=line.clock_day,
                duration_bucket=0,
                watch_bin=-1,
            )
        )
        if line.negative:
            self.negatives.learn(code, np.array([line.negative]), line.clock_day)


def sums_of(rules: Rules, known: int, positive: int) -> Sums:
    """Return what a view adds: one view, then known and positive per counted objective."""
    parts = [1.0]
    for objective in COUNTABLE:
        if objective in rules.counters.counted:
            bit = 1 << LABELS.index(objective)
            parts += [float(bool(known & bit)), float(bool(positive & known & bit))]
    return np.array(parts)
