"""Who runs the trained network for a request.

    Encoded or None, History      ->  Backend.encode  ->  Encoded, kept for the next event
    Encoded, Request, Candidates  ->  Backend.rank    ->  Ranked: a prediction per candidate
    Encoded, Request              ->  Backend.find    ->  the viewer's vector for retrieval

- One class, whatever runs below: a runner is a function from a form's arrays to its results.
- No history and no candidate are answered too; what is padded here changes no number.
- Stateless after it is made, so threads may share one.

Reads `model.forms` and `model.request`; is read by the pipeline of serving.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from skipwise.model.encoder_settings import EncoderSettings
from skipwise.model.forms import EncodeForm, FindForm, RankForm
from skipwise.model.recommender import Recommender
from skipwise.model.request import Array, Candidates, Encoded, History, Request

Runner = Callable[[tuple[Array, ...]], tuple[Array, ...]]
Form = Literal["encode", "rank", "find"]
BackendName = Literal["eager", "onnx", "compiled"]
SHORTEST = 2
"""Exported forms take no fewer events or candidates; the rest is padded."""
KEPT_BESIDE = 32
"""So many encoded events are kept beside the last W, so that what a late outcome changes is few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """What is predicted for the C candidates of a request."""

    objectives: tuple[str, ...]
    logits: Array
    """(C, O) float32, columns as `objectives`."""
    expected_watch_s: Array
    """(C,) float32 seconds."""

    def probabilities(self) -> dict[str, Array]:
        """Return (C,) probabilities per objective."""
        each = 1 / (1 + np.exp(-self.logits.T.astype(np.float64, order="C")))
        return dict(zip(self.objectives, each, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A trained network, ready to answer requests."""

    name: BackendName
    objectives: tuple[str, ...]
    encoder: EncoderSettings
    runners: Mapping[Form, Runner]
    width: int
    """D: a video's vector has so many numbers for ranking, then those for retrieval."""

    @property
    def reach(self) -> int:
        """How many events `encode` makes use of; older ones change nothing."""
        return self.encoder.reach

    def encode(self, history: History, before: Encoded | None = None) -> Encoded:
        """Encode a viewer's past, or what has arrived since it was encoded last.

        As many events at a time as one of them reads, so that a long past costs no more than its
        length, where the encoder lets events follow others.

        Args:
            history: Events that have arrived, oldest first; more than `reach` are cut.
            before: The events before them, at least W - 1 or all there are; `encoder.follows`.

        Returns:
            The last encoded events: W and KEPT_BESIDE, or as many as there are.
        """
        encoded = self._nothing(history) if before is None else before
        number = len(history)
        first = max(0, number - self.reach)
        step = self.encoder.history_length if self.encoder.follows else max(1, number)
        for start in range(first, number, step):
            encoded = self._follow(encoded, history, slice(start, min(start + step, number)))
        return encoded

    def read_of(self, encoded: Encoded) -> Encoded:
        """Return what candidates read of a past: the last W events."""
        return encoded.cut(slice(max(0, len(encoded) - self.encoder.history_length), None))

    def _follow(self, encoded: Encoded, history: History, new: slice) -> Encoded:
        read = len(encoded) - min(len(encoded), self.encoder.history_length - 1)
        before = (encoded.given, encoded.feedback, encoded.time_s)
        arrived = (
            history.vectors,
            history.feedback,
            history.watch_share,
            history.context,
            history.time_s,
        )
        number = new.stop - new.start
        states_TD, *given = self.runners["encode"](
            (
                *(_padded_in_front(column[read:]) for column in before),
                _padded_in_front(np.ones(len(encoded) - read, dtype=bool)),
                *(_padded(column[new]) for column in arrived),
                _valid(number),
            )
        )
        added = Encoded(
            states=states_TD[:number],
            given=given[0][:number] if given else np.empty((number, 0, self.width), np.float32),
            video=history.video[new],
            author=history.author[new],
            topics=history.topics[new],
            feedback=history.feedback[new],
            time_s=history.time_s[new],
            co_watched=history.vectors[new, self.width :],
        )
        return encoded.and_then(added, self.encoder.history_length + KEPT_BESIDE)

    def _nothing(self, history: History) -> Encoded:
        blocks = self.encoder.blocks if self.encoder.follows else 0
        return Encoded(
            states=np.empty((0, self.width), dtype=np.float32),
            given=np.empty((0, blocks, self.width), dtype=np.float32),
            video=history.video[:0],
            author=history.author[:0],
            topics=history.topics[:0],
            feedback=history.feedback[:0],
            time_s=history.time_s[:0],
            co_watched=history.vectors[:0, self.width :],
        )

    def find(self, encoded: Encoded, request: Request) -> Array:
        """Make the viewer's vector for retrieval, (R + r,).

        Args:
            encoded: From `encode`.
            request: Who asks, where and when.
        """
        context, _, categories, numbers = _asked(request)
        encoded = self.read_of(encoded)
        columns = (encoded.states, encoded.co_watched, encoded.feedback, encoded.time_s)
        (vector,) = self.runners["find"](
            (
                *(_padded(column) for column in columns),
                _valid(len(encoded)),
                context,
                categories,
                numbers,
            )
        )
        return vector

    def rank(self, encoded: Encoded, request: Request, candidates: Candidates) -> Ranked:
        """Predict every objective for each candidate.

        Args:
            encoded: From `encode`.
            request: Who asks, where and when.
            candidates: C videos and what is counted of them; C may be 0.
        """
        arrays = rank_arrays(self.read_of(encoded), request, candidates)
        logits_CO, watch_C = self.runners["rank"](arrays)
        number = len(candidates)
        return Ranked(
            objectives=self.objectives,
            logits=logits_CO[:number],
            expected_watch_s=watch_C[:number],
        )


def eager_backend(model: Recommender) -> Backend:
    """Run the network as training does: the reference for every other backend."""
    return backend_of(
        model, "eager", {"encode": _eager(EncodeForm(model)), "rank": _eager(RankForm(model))}
    )


def backend_of(model: Recommender, name: BackendName, runners: Mapping[Form, Runner]) -> Backend:
    """Put runners of a model's forms behind the one interface; what is left out runs eagerly."""
    find: Mapping[Form, Runner] = {"find": _eager(FindForm(model))}
    return Backend(
        name=name,
        objectives=model.objectives,
        encoder=model.settings.encoder,
        runners={**find, **runners},
        width=model.settings.width,
    )


def rank_arrays(encoded: Encoded, request: Request, candidates: Candidates) -> tuple[Array, ...]:
    """Lay a request out as `RankForm` takes it; padded to SHORTEST events and candidates."""
    return (*_past(encoded), *_asked(request), *_offered(candidates))


def _eager(form: nn.Module) -> Runner:
    form.eval()

    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        with torch.inference_mode():
            result = form(*(torch.from_numpy(array) for array in arrays))
        results = result if isinstance(result, tuple) else (result,)
        return tuple(tensor.numpy() for tensor in results)

    return run


def _past(encoded: Encoded) -> tuple[Array, ...]:
    columns = (
        encoded.states,
        encoded.video,
        encoded.author,
        encoded.topics,
        encoded.feedback,
        encoded.time_s,
    )
    return (*(_padded(column) for column in columns), _valid(len(encoded)))


def _asked(request: Request) -> tuple[Array, ...]:
    return (
        request.context,
        np.array(request.time_s, dtype=np.float64),
        request.viewer_categories,
        request.viewer_numbers,
    )


def _offered(candidates: Candidates) -> tuple[Array, ...]:
    columns = (
        candidates.vectors,
        candidates.video,
        candidates.author,
        candidates.topics,
        candidates.counters,
        candidates.duration_s,
        candidates.effective_above_s,
        candidates.finished_above_s,
    )
    return tuple(_padded(column) for column in columns)


def _valid(number: int) -> Array:
    return np.arange(max(number, SHORTEST)) < number


def _padded_in_front(values: Array) -> Array:
    """Put zeros before until there are SHORTEST rows."""
    lacking = SHORTEST - len(values)
    if lacking <= 0:
        return np.ascontiguousarray(values)
    return np.concatenate([np.zeros((lacking, *values.shape[1:]), dtype=values.dtype), values])


def _padded(values: Array) -> Array:
    """Add zeros until there are SHORTEST rows."""
    lacking = SHORTEST - len(values)
    if lacking <= 0:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.zeros((lacking, *values.shape[1:]), dtype=values.dtype)])
