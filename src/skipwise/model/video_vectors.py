"""The vectors of videos, made once and kept: what ranking and what retrieval read of a video.

    catalogue            ->  embed_all          ->  vectors (V, D + r), for `request`'s forms
    vectors (V, D + r)   ->  retrieval_vectors  ->  vectors (V, R + r), for nearest neighbours

- V videos, D the model's width, R the retrieval head's, r its fixed vectors of videos watched
  together (`retrieval`).

Reads `recommender`; is read by serving and evaluation. No I/O.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.features.vocabulary import Catalogue
from skipwise.model.batch import video_batch
from skipwise.model.recommender import Recommender

Array = NDArray[Any]
_AT_ONCE = 8192
"""About how many videos go through the network together: what bounds its memory."""


@torch.no_grad()
def retrieval_vectors(model: Recommender, vectors: Array) -> Array:
    """Turn (V, D + r) video vectors of `embed_all` into those of the retrieval head, (V, R + r)."""
    width = model.settings.width
    return np.concatenate(
        [
            model.retrieval.videos(
                torch.from_numpy(part[:, :width]), torch.from_numpy(part[:, width:])
            ).numpy()
            for part in np.array_split(vectors, max(1, len(vectors) // _AT_ONCE))
        ]
    )


def vector_width(model: Recommender) -> int:
    """Return how many numbers `embed_all` gives a video: D + r."""
    return model.settings.width + model.settings.retrieval.co_watched


@torch.no_grad()
def embed_all(model: Recommender, catalogue: Catalogue, rows: Array | None = None) -> Array:
    """Make the vectors of videos as serving holds them.

    Args:
        model: In evaluation mode.
        catalogue: In the model's indices.
        rows: (V,) catalogue rows; None = all.

    Returns:
        (V, D + r) float32: the embedding, and the retrieval head's fixed vector.
    """
    chosen = np.arange(len(catalogue.video)) if rows is None else rows
    pieces = []
    for part in np.array_split(chosen, max(1, len(chosen) // _AT_ONCE)):
        videos = video_batch(catalogue, part)
        fixed = model.retrieval.co_watched[videos.video]
        pieces.append(torch.cat([model.inputs.embed_videos(videos), fixed], 1).numpy())
    return np.concatenate(pieces)
