"""Who runs the trained network for a request.

    History                       ->  Backend.encode  ->  Encoded, kept until the next event
    Encoded, Request, Candidates  ->  Backend.rank    ->  Ranked: a prediction per candidate
    Encoded, Request              ->  Backend.find    ->  the viewer's vector for retrieval

- One class, whatever runs below: a runner is a function from a form's arrays to its results.
- No history and no candidate are answered too; what is padded here changes no number.
- Stateless after it is made, so threads may share one.

Reads `model.request`; is read by the pipeline of serving.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from skipwise.model.recommender import Recommender
from skipwise.model.request import (
    Array,
    Candidates,
    Encoded,
    EncodeForm,
    FindForm,
    History,
    RankForm,
    Request,
)

Runner = Callable[[tuple[Array, ...]], tuple[Array, ...]]
Form = Literal["encode", "rank", "find"]
BackendName = Literal["eager", "onnx", "compiled"]
SHORTEST = 2
"""Exported forms take no fewer events or candidates; the rest is padded."""


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
        each = 1 / (1 + np.exp(-self.logits.astype(np.float64)))
        return {name: each[:, place] for place, name in enumerate(self.objectives)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A trained network, ready to answer requests."""

    name: BackendName
    objectives: tuple[str, ...]
    history_length: int
    """W: how many encoded events a candidate reads."""
    reach: int
    """How many events `encode` makes use of; older ones change nothing."""
    runners: Mapping[Form, Runner]
    width: int
    """D: a video's vector has so many numbers for ranking, then those for retrieval."""

    def encode(self, history: History) -> Encoded:
        """Encode a viewer's past; call again when an event has been added.

        Args:
            history: Events that have arrived, oldest first; more than `reach` are cut.

        Returns:
            The last W encoded events.
        """
        number = len(history)
        first, kept = max(0, number - self.reach), max(0, number - self.history_length)
        (states_TD,) = self.runners["encode"](
            (
                _padded(history.vectors[first:]),
                _padded(history.feedback[first:]),
                _padded(history.watch_share[first:]),
                _padded(history.context[first:]),
                _padded(history.time_s[first:]),
                _valid(number - first),
            )
        )
        return Encoded(
            states=states_TD[kept - first : number - first],
            video=history.video[kept:],
            author=history.author[kept:],
            topics=history.topics[kept:],
            feedback=history.feedback[kept:],
            time_s=history.time_s[kept:],
            co_watched=history.vectors[kept:, self.width :],
        )

    def find(self, encoded: Encoded, request: Request) -> Array:
        """Make the viewer's vector for retrieval, (R + r,).

        Args:
            encoded: From `encode`.
            request: Who asks, where and when.
        """
        context, _, categories, numbers = _asked(request)
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
        logits_CO, watch_C = self.runners["rank"](rank_arrays(encoded, request, candidates))
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
    encoder = model.settings.encoder
    find: Mapping[Form, Runner] = {"find": _eager(FindForm(model))}
    return Backend(
        name=name,
        objectives=model.objectives,
        history_length=encoder.history_length,
        reach=encoder.reach,
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


def _padded(values: Array) -> Array:
    """Add zeros until there are SHORTEST rows."""
    lacking = SHORTEST - len(values)
    if lacking <= 0:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.zeros((lacking, *values.shape[1:]), dtype=values.dtype)])
