"""Which variant of an experiment answers a viewer, and which no longer does.

    Definition, Models  ->  open_variants  ->  Variants.answering(viewer)  ->  model, name, weights
    Definition, Store  ->  begin  ->  its shares and salt are remembered; others are refused
                           check_begun  ->  the same refusal, for who only watches
    document `experiment`  ->  Variants.heed  ->  a stopped variant's viewers go to control
                               stops_of       ->  when each was stopped, for who analyses
    a slate under a variant's name  ->  Variants.exposing  ->  his exposure, noted once

- Assignment is that of `experiments`, so whoever analyses the log finds the same.
- A viewer of a stopped variant is answered by control under the name STOPPED: his views are none of
  the experiment's any more, and what he saw before stays what it was.

Reads `experiments`, `exposing` and `models`; is read by `engine` and `serve`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec

from skipwise.errors import ExperimentError
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import STOPPED, Definition
from skipwise.experiments.stops import Stop
from skipwise.model.score import ScoreWeights, load_score_weights
from skipwise.serving.exposing import Exposing
from skipwise.serving.line_up import Models
from skipwise.serving.models import Served, load_model
from skipwise.serving.state.store import Store
from skipwise.serving.world import DocumentChanged, pack_line

EXPERIMENT_DOCUMENT = "experiment"
_BEGUN = "begun:"


class Stops(msgspec.Struct, frozen=True):
    """Which variants get no more viewers."""

    experiment: str
    key: str
    """`assignment_key`: a changed experiment of the same name is another."""
    stopped: dict[str, Stop]
    """By variant."""


@dataclass(slots=True)
class Variants:
    """The variants of one experiment, ready to answer."""

    definition: Definition
    models: Mapping[str, Served]
    weights: Mapping[str, ScoreWeights]
    exposing: Exposing
    stopped: dict[str, Stop] = field(default_factory=dict)
    """By variant."""

    @property
    def names(self) -> tuple[str, ...]:
        """What an event may name as its variant."""
        return (*self.models, STOPPED)

    def answering(self, viewer_id: str) -> tuple[Served, str, ScoreWeights] | None:
        """Return who answers a viewer, under which name, with which weights; None: no variant."""
        name = _assigned(self.definition, viewer_id)
        if name is None:
            return None
        who = self.definition.control if name in self.stopped else name
        return self.models[who], STOPPED if name in self.stopped else name, self.weights[who]

    def heed(self, document: bytes) -> None:
        """Take over what was stopped, where it is of this experiment."""
        self.stopped = _of(self.definition, document) or self.stopped


def open_variants(definition: Definition, models: Models) -> Variants:
    """Load every variant's model and score.

    Raises:
        RunError: A model is damaged, or trained by other rules.
        SettingError: A file of weights is wrong.
    """
    loaded, weights = {}, {}
    for variant in definition.variants:
        path = definition.folder / variant.model
        loaded[variant.name] = load_model(
            path, models.world, models.dataset, models.backend, day=models.today()
        )
        score = definition.folder / variant.score
        weights[variant.name] = load_score_weights(score) if variant.score else ScoreWeights()
    models.beside = tuple(loaded.values())
    exposing = Exposing(definition, models.store)
    models.world.on_exposed = exposing.hear
    return Variants(definition, loaded, weights, exposing)


def begin(store: Store, definition: Definition) -> None:
    """Remember by what an experiment assigns its viewers, when it is served for the first time.

    Raises:
        ExperimentError: It was served from this state with other shares, variants or another salt.
        StateError: The state is out of reach.
    """
    if not check_begun(store, definition):
        store.put(f"{_BEGUN}{definition.name}", definition.assignment_key.encode())


def check_begun(store: Store, definition: Definition) -> bool:
    """Return whether an experiment of this name was served from a state; writes nothing.

    Raises:
        ExperimentError: It was, with other shares, variants or another salt.
        StateError: The state is out of reach.
    """
    held = store.get(f"{_BEGUN}{definition.name}")
    if held is not None and held.value.decode() != definition.assignment_key:
        raise ExperimentError(
            f"{definition.name!r} was served from this state with other shares, variants or "
            "another salt; they must stay as they were while an experiment runs. Put them back, or "
            "start anew under another name."
        )
    return held is not None


def stop(
    store: Store, definition: Definition, variant: str, at_ms: int, *, guardrail: str, why: str
) -> None:
    """Let no more viewers have a variant, on every server of this state.

    Args:
        store: The servers' state.
        definition: The experiment.
        variant: Which; one that was stopped before stays so, as of then.
        at_ms: Now, UTC ms.
        guardrail: The metric that broke.
        why: In words.

    Raises:
        StateError: The state is out of reach.
    """
    key = definition.assignment_key
    new = {variant: Stop(definition.name, key, variant, at_ms, guardrail, why)}
    stops = Stops(definition.name, key, new | stops_of(store, definition))
    notice = pack_line(DocumentChanged(EXPERIMENT_DOCUMENT))
    store.put(EXPERIMENT_DOCUMENT, msgspec.json.encode(stops), notice)


def stops_of(store: Store, definition: Definition) -> dict[str, Stop]:
    """Return which variants of an experiment were stopped, as a state knows it.

    Raises:
        StateError: The state is out of reach.
    """
    held = store.get(EXPERIMENT_DOCUMENT)
    return {} if held is None else _of(definition, held.value)


def _of(definition: Definition, document: bytes) -> dict[str, Stop]:
    """Return the stops of a document; none where it is another experiment's."""
    held = msgspec.json.decode(document, type=Stops)
    own = (held.experiment, held.key) == (definition.name, definition.assignment_key)
    return held.stopped if own else {}


@lru_cache(maxsize=100_000)
def _assigned(definition: Definition, viewer_id: str) -> str | None:
    return assign(definition, [viewer_id])[0]
