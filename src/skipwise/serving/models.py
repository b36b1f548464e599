"""How a trained model comes to answer: read, bound, warmed, proven.

    RUN folder  ->  load_model: read, bind, warm, prove  ->  Served

- A model is taken only when it has proven itself on a batch of its own: finite, the same twice, the
  same numbers alone as among others, and as the eager backend's.

Reads `backends`, `catalogue` and `world`; is read by `line_up` and the pipeline.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import DatasetError, RunError
from skipwise.features.dataset import Dataset
from skipwise.features.known import DAY_MS
from skipwise.features.vocabulary import Catalogue
from skipwise.labels.feedback import Feedback
from skipwise.serving.backends import Backend, BackendName, eager_backend
from skipwise.serving.catalogue import STRANGERS, BoundVideos
from skipwise.serving.compiled import compiled_backend
from skipwise.serving.onnx import onnx_backend
from skipwise.serving.past import EVENT, Past
from skipwise.serving.retrieval import Finder
from skipwise.serving.rows import Ask, lay_out
from skipwise.serving.rules import Rules
from skipwise.serving.world import World
from skipwise.training.checkpoint import MODEL_FILE, TrainedRun, load_run

_BOUND_AT_ONCE = 1000
_PROVEN_TO = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Served:
    """A model that has proven itself."""

    name: str
    checksum: str
    run: TrainedRun
    backend: Backend
    videos: BoundVideos
    finder: Finder
    viewers: dict[str, int]
    bound: Catalogue | None
    """The dataset's catalogue in the model's indices; its viewers' extras are read."""

    def viewer(self, viewer_id: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return a viewer's extras in the model's indices; zeros where none are known."""
        row = self.viewers.get(viewer_id)
        if row is None or self.bound is None:
            vocabulary = self.run.vocabulary
            return (
                np.zeros(len(vocabulary.viewer_categories), dtype=np.int64),
                np.zeros(len(vocabulary.viewer_numbers), dtype=np.float32),
            )
        return self.bound.viewer_categories[row], self.bound.viewer_numbers[row]


def load_model(
    path: Path,
    world: World,
    dataset: Dataset | None,
    backend: BackendName = "eager",
    *,
    day: int = 0,
) -> Served:
    """Read a run, bind what there is to it, warm it, let it prove itself, build its index.

    Args:
        path: The RUN folder.
        world: What there is; its lock is held for moments only, so that others go on answering.
        dataset: Whose catalogue and viewers come bound.
        backend: Who runs the network.
        day: Local calendar day as of whose start videos are popular.

    Raises:
        RunError: It is damaged, counts or labels by other rules, or fails its proof.
    """
    run = load_run(path)
    rules = Rules.of(run.description["dataset"])
    if rules != world.rules:
        raise RunError(
            f"{path} was trained by other rules (labels, counters or time zone) than this server "
            "keeps its state by; they must be the same. Start a server with a --state of its own."
        )
    try:
        bound = None if dataset is None else run.catalogue(dataset)
    except RunError as problem:
        raise RunError(f"{path} does not fit --data: {problem}") from None
    viewer_ids = [] if dataset is None else dataset.viewers["viewer_id"].to_pylist()
    videos = BoundVideos(run.model, run.vocabulary, world.catalogue, bound)
    while videos.version < world.catalogue.version:
        with world.lock:
            videos.follow(world.catalogue, at_most=_BOUND_AT_ONCE)
    finder = Finder(run.model, videos, taught=run.settings.loss.retrieval > 0)
    finder.build(world, day)
    served = Served(
        name=path.name,
        checksum=str(run.description["checksums"][MODEL_FILE]),
        run=run,
        backend=eager_backend(run.model),
        videos=videos,
        finder=finder,
        viewers={viewer_id: row for row, viewer_id in enumerate(viewer_ids)},
        bound=bound,
    )
    prove(served, world)
    make = {"onnx": onnx_backend, "compiled": compiled_backend}.get(backend)
    if make is not None:
        faster = dataclasses.replace(served, backend=make(path, run.model))
        prove(faster, world, reference=served)
        return faster
    return served


def prove(served: Served, world: World, reference: Served | None = None) -> None:
    """Rank a built-in batch: finite, repeatable, the same alone as together and as a reference.

    Raises:
        RunError: It does not hold.
    """
    with world.lock:
        codes = np.arange(min(len(world.catalogue), 2048))[-32:]
        together = _predict(served, world, codes)
        again, alone = _predict(served, world, codes), _predict(served, world, codes[:1])
        nobody = _predict(served, world, codes, events=0)
        other = served if reference is None else reference
        expected = _predict(other, world, codes)
        expected_of_nobody = _predict(other, world, codes, events=0)
    if not np.isfinite(together).all():
        raise RunError(
            f"{served.name} predicts {together[~np.isfinite(together)][0]} for a built-in batch, "
            "must be finite. The weights are damaged: train again."
        )
    pairs = (
        (together, again),
        (together[:1], alone),
        (together, expected),
        (nobody, expected_of_nobody),
    )
    apart = max(float((np.abs(a - b) / np.maximum(1, np.abs(b))).max()) for a, b in pairs)
    if apart > _PROVEN_TO:
        raise RunError(
            f"{served.name} on {served.backend.name} differs by {apart:.2g} between two rankings "
            f"of a built-in batch, must be within {_PROVEN_TO:g}. Give --backend eager."
        )


def open_dataset(path: Path | None, run: Path) -> Dataset | None:
    """Open `--data`, or the dataset the run was trained on where it is still there.

    Raises:
        DatasetError: `--data` is not a dataset.
    """
    if path is not None:
        return Dataset.open(path)
    learnt_from = load_run(run).description["dataset"]
    try:
        dataset = Dataset.open(Path(learnt_from["path"]))
    except DatasetError:
        return None
    return dataset if dataset.fingerprint == learnt_from["fingerprint"] else None


def _made_up_events(world: World, number: int) -> NDArray[np.void]:
    """Make a past of all kinds of outcomes, of videos there are, until a day ago."""
    place, known = np.arange(number), len(world.catalogue) - STRANGERS
    events = np.zeros(number, dtype=EVENT)
    codes = STRANGERS + place % known if known else place % STRANGERS  # none without a dataset
    events["video"] = world.catalogue.name[codes]
    events["shown_at_ms"] = place * 40_000 - number * 40_000 + max(world.crowd.day - 1, 0) * DAY_MS
    events["known_at_ms"] = events["shown_at_ms"] + 20_000
    events["watch_s"], events["duration_s"] = place * 7 % 40, 30
    events["feedback"] = 1 + place % (len(Feedback) - 1)
    events["hour"], events["session_place"] = place % 24, place % 7
    return events


def _predict(
    served: Served, world: World, codes: NDArray[np.int64], events: int | None = None
) -> NDArray[np.float64]:
    rules = world.rules
    past = Past(rules.num_sums, rules.counters.half_life_days)
    past.events = _made_up_events(world, served.backend.reach if events is None else events)
    day = max(world.crowd.day, 0)
    ask = Ask(
        viewer_id="",
        surface="",
        requested_at_ms=day * 86_400_000,
        clock_day=day,
        day=day,
        hour=0,
    )
    viewer, reach = served.viewer(""), served.backend.reach
    asked = lay_out(past, ask, codes, world.catalogue, served.videos, world.crowd, viewer, reach)
    encoded = served.backend.encode(asked.history)
    ranked = served.backend.rank(encoded, asked.request, asked.candidates)
    vector = served.backend.find(encoded, asked.request).astype(np.float64)
    return np.concatenate(
        [
            ranked.logits.astype(np.float64),
            ranked.expected_watch_s[:, None].astype(np.float64),
            np.broadcast_to(vector, (len(codes), len(vector))),
        ],
        axis=1,
    )
