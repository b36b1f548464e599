"""Who does the work of one process: a thread that ranks, a thread that keeps.

    answer    ->  Worker.rank  ->  Slate, or 429 where it would wait too long
    EventBatch ->  Worker.keep  ->  counts, when they are on disk
    a slate    ->  Worker.expose ->  may leave: its viewer's exposure is on disk

- The loop between the threads only reads and writes sockets.
- A request that would wait too long is refused at once; one that has waited past its deadline is
  answered without the model, and says so.
- Whoever comes while the disk is written shares the next flush.
- In an experiment a viewer's first slate waits for a flush; where that fails, or takes longer than
  `limits.deadline_ms`, it leaves without, and the exposure is written within half a second of when
  it can be.

Reads `engine`, `lab`, `front` and `metrics`; is read by `app`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from skipwise.errors import SkipwiseError, StateError, StorageError
from skipwise.serving import metrics
from skipwise.serving.engine import Engine
from skipwise.serving.front import Fronts
from skipwise.serving.lab import EVERY_S, Recorder
from skipwise.serving.refusal import Refusal
from skipwise.serving.seed import now_ms
from skipwise.serving.takeover import Takeover
from skipwise.serving.trust import Keys, RateLimit
from skipwise.serving.wire import EventBatch, Slate
from skipwise.settings import check_setting

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitSettings:
    """What one worker takes on."""

    body_bytes: int = 4_000_000
    body_s: float = 5.0
    """A body that has not come by then is refused."""
    wait_ms: float = 60.0
    """A request that would wait longer for the model is refused with 429."""
    deadline_ms: float = 250.0
    """A request older than this when its turn comes is answered without the model."""
    waiting_batches: int = 2000
    """Batches of events that may wait for the disk."""
    per_second: float = 5000.0
    """Requests per key, evenly."""
    burst: float = 10_000.0

    def __post_init__(self) -> None:
        check_setting("limits.body_bytes", self.body_bytes, at_least=1000)
        check_setting("limits.body_s", self.body_s, above=0)
        check_setting("limits.wait_ms", self.wait_ms, above=0)
        check_setting("limits.deadline_ms", self.deadline_ms, above=0)
        check_setting("limits.waiting_batches", self.waiting_batches, at_least=1)
        check_setting("limits.per_second", self.per_second, above=0)
        check_setting("limits.burst", self.burst, at_least=1)


@dataclass(slots=True)
class Worker:
    """What the handlers of one process share."""

    engine: Engine
    keys: Keys | None
    limits: LimitSettings
    rate: RateLimit = field(init=False)
    ranking: ThreadPoolExecutor = field(init=False)
    keeping: ThreadPoolExecutor = field(init=False)
    in_line: int = 0
    """Requests that wait for the ranking thread, or are in it."""
    usual_s: float = 0.005
    """What a ranking takes, a running mean."""
    batches: list[tuple[EventBatch, "asyncio.Future[tuple[int, int]]"]] = field(
        default_factory=list
    )
    flushing: "asyncio.Task[None] | None" = None
    noting: "asyncio.Task[bool] | None" = None
    """Exposures on their way to the disk."""
    recorder: Recorder = field(default_factory=Recorder)
    fronts: Fronts = field(default_factory=Fronts)
    named: set[str] = field(default_factory=set)
    """Models that have answered someone."""
    takeover: Takeover | None = None
    """Where a folder of published models is followed."""

    def __post_init__(self) -> None:
        self.rate = RateLimit(self.limits.per_second, self.limits.burst)
        self.ranking = ThreadPoolExecutor(1, "ranking")
        self.keeping = ThreadPoolExecutor(1, "keeping")

    async def rank(self, answer: Callable[[bool], Slate]) -> Slate:
        """Answer in the ranking thread; `answer` is told whether it must be cheap.

        Raises:
            Refusal: It would wait too long.
        """
        wait_ms = self.in_line * self.usual_s * 1000
        if wait_ms > self.limits.wait_ms:
            metrics.SHED.inc()
            raise Refusal(
                429,
                f"{self.in_line} requests wait here, {wait_ms:.0f} ms of work; no request may wait "
                f"more than {self.limits.wait_ms:g} ms. Ask again after Retry-After.",
                retry_after_s=max(1.0, wait_ms / 1000),
            )
        arrived = perf_counter()

        def run() -> Slate:
            begun = perf_counter()
            late = (begun - arrived) * 1000 > self.limits.deadline_ms
            slate = answer(late)
            took = perf_counter() - begun
            self.usual_s += 0.05 * (took - self.usual_s)
            metrics.observe("wait", begun - arrived)
            metrics.observe("rank", took)
            if slate.degraded:
                metrics.DEGRADED.inc()
            return slate

        self.in_line += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.ranking, run)
        finally:
            self.in_line -= 1

    async def keep(self, batch: EventBatch) -> tuple[int, int]:
        """Keep a batch with the next flush; returns (new, duplicate).

        Raises:
            Refusal: Too many wait for the disk.
        """
        if len(self.batches) >= self.limits.waiting_batches:
            metrics.SHED.inc()
            raise Refusal(
                429,
                f"{len(self.batches)} batches wait for the disk; no more than that may. "
                "Send it again after Retry-After.",
                retry_after_s=1.0,
            )
        future: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self.batches.append((batch, future))
        if self.flushing is None:
            self.flushing = asyncio.create_task(self._flush())
        return await future

    async def expose(self, viewer_id: str) -> None:
        """Wait until a viewer's first exposure to the experiment is on disk, or will be later."""
        variants, patience_s = self.engine.variants, self.limits.deadline_ms / 1000
        while variants is not None and variants.exposing.waits(viewer_id):
            if self.noting is None:
                self.noting = asyncio.create_task(self._note())
            done, _ = await asyncio.wait({self.noting}, timeout=patience_s)
            if not done or not done.pop().result():
                return

    async def apart(self, call: Callable[[], Result]) -> Result:
        """Do something that reads or writes the state in the keeping thread."""
        return await asyncio.get_running_loop().run_in_executor(self.keeping, call)

    async def _flush(self) -> None:
        try:
            while self.batches:
                waiting, self.batches = self.batches, []
                try:
                    with metrics.timed("keep"):
                        counts = await self.apart(self._keeping([each[0] for each in waiting]))
                except Exception as problem:
                    for _, future in waiting:
                        if not future.done():
                            future.set_exception(problem)
                    continue
                for (_, future), count in zip(waiting, counts, strict=True):
                    if not future.done():
                        future.set_result(count)
        finally:
            self.flushing = None

    async def _note(self) -> bool:
        """Write down once who waits; returns whether it is on disk."""
        try:
            with metrics.timed("expose"):
                return await self.apart(self._noted)
        finally:
            self.noting = None

    def _noted(self) -> bool:
        engine = self.engine
        if engine.variants is None:
            return True
        try:
            engine.variants.exposing.write()
        except (StateError, StorageError) as problem:
            engine.problems["exposures"] = str(problem)
            return False
        engine.problems.pop("exposures", None)
        return True

    def _keeping(self, batches: list[EventBatch]) -> Callable[[], list[tuple[int, int]]]:
        return lambda: self.engine.keep(batches)

    async def watch(self) -> None:
        """Follow the log also when nobody asks, and write the world down now and then."""
        beats = 0
        while True:
            await asyncio.sleep(0.5)
            beats += 1
            if beats % (2 * EVERY_S) == 1:
                self.recorder.take(now_ms())
            with contextlib.suppress(SkipwiseError):
                await self.apart(self.engine.catch_up)
                await self.apart(self._noted)  # where it could not be before
                await asyncio.to_thread(self.engine.refresh)
                if beats % 60 == 1:
                    await self.apart(self._measure)
                    await self.apart(self.engine.write_down)
                if beats % 7200 == 10:
                    await self.apart(self.engine.prune)

    async def take_over(self) -> None:
        """Look after published models, beside the requests."""
        while self.takeover is not None:
            await asyncio.sleep(self.takeover.settings.poll_s)
            with contextlib.suppress(SkipwiseError, OSError):  # models come and go as it looks
                await self.apart(self.engine.catch_up)
                await asyncio.to_thread(self.takeover.look)

    def close(self) -> None:
        """Finish what was begun, and write the world down."""
        self.ranking.shutdown()
        self.keeping.shutdown()
        with contextlib.suppress(SkipwiseError):
            self.engine.catch_up()  # who was forgotten has no exposure that waits
        self._noted()
        with contextlib.suppress(SkipwiseError):
            self.engine.write_down(at_least=1)
        self.engine.store.close()

    def _measure(self) -> None:
        metrics.STATE_BYTES.set(self.engine.store.num_bytes())
        metrics.STATE_VIEWERS.set(self.engine.store.num_viewers())
        models = self.engine.models
        share = models.line_up.canary_share
        parts = dict.fromkeys(self.named, 0.0)
        for model, part in zip(models.every(), (1 - share, share), strict=False):
            parts[f"{model.name}@{model.checksum[:12]}"] = part
        self.named.update(parts)
        for name, part in parts.items():
            metrics.MODEL.labels(name).set(part)
        followed = models.every()[0].run.description.get("followed", {})
        metrics.LEARNT_UNTIL.set(followed.get("until_ms", 0) / 1000)
