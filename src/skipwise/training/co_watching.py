"""Vectors that say which videos are watched by the same viewers.

    Dataset, training rows  ->  co_watched_vectors  ->  (V, r), fixed from then on

Truncated singular value decomposition of who watched what (PureSVD; Cremonesi, Koren, Turrin,
RecSys 2010, doi 10.1145/1864708.1864721), popular videos weighed down; by random projection
(Halko, Martinsson, Tropp, SIAM Review 2011). Is read by `fit`.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from skipwise.features.co_watching import watched_lately
from skipwise.features.dataset import Dataset

_POPULAR_POWER = 0.4
"""A pair weighs n_video ** -0.4; of 0.25, 0.4 and 0.5 the best on KuaiRand-Pure (docs/log.md)."""
_SIDE_POWER = 0.125
"""A vector is made shorter by n_video ** -0.125 besides."""
_EXTRA, _ROUNDS = 8, 3
_STRENGTHS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)
_PAIRS_TOGETHER = 250_000
"""Pairs of a viewer and a video that are ranked together: 3 MB."""
_JUDGED = 2000
"""Viewers at most whose last watch says how strong the vectors should be."""

Integers = NDArray[np.int64]
Vectors = NDArray[np.float32]


def co_watched_vectors(
    dataset: Dataset, known_rows: NDArray[np.int64], width: int, *, seed: int
) -> Vectors:
    """Find vectors of videos whose products are large where the same viewers watched both.

    Args:
        dataset: Where the rows lie.
        known_rows: (N,) event rows of the training window, the untimed past included, ascending.
        width: r.
        seed: Of the projection.

    Returns:
        (V, r): `sum of what a viewer watched / root of its number` times a video's vector is added
        to the video's logit, as strong as ranks best what viewers watched last by what they watched
        before; zero for a video that nobody watched, and everywhere where it ranks no better.
    """
    viewer, video = watched_lately(dataset, known_rows)
    num_videos = dataset.videos.num_rows
    last = np.append(viewer[1:] != viewer[:-1], len(viewer) > 0)
    before = _vectors(viewer[~last], video[~last], num_videos, width, seed)
    strength = _best_strength(viewer, video, last, before)
    return _vectors(viewer, video, num_videos, width, seed) * np.float32(strength**0.5)


def _vectors(viewer: Integers, video: Integers, num_videos: int, width: int, seed: int) -> Vectors:
    """Decompose who watched what; scaled so that the products (see above) have spread 1."""
    vectors = np.zeros((num_videos, width), dtype=np.float32)
    _, viewer_ix, of_viewer = np.unique(viewer, return_inverse=True, return_counts=True)
    rank = min(width, len(of_viewer) - 1, num_videos - 1)
    if rank < 1:
        return vectors
    of_video = np.maximum(np.bincount(video, minlength=num_videos), 1)
    weight = of_video[video] ** -_POPULAR_POWER / np.sqrt(of_viewer[viewer_ix])
    who_watched = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([viewer_ix, video])),
        torch.from_numpy(weight.astype(np.float32)),
        (len(of_viewer), num_videos),
        check_invariants=True,
    ).coalesce()
    asked = min(rank + _EXTRA, *who_watched.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, right = torch.svd_lowrank(who_watched, q=asked, niter=_ROUNDS)
    vectors[:, :rank] = right[:, :rank].numpy() * of_video[:, None] ** -_SIDE_POWER
    products = _viewer_sums(viewer, video, vectors)
    vectors /= max(_spread_of_products(products, vectors), 1e-12) ** 0.5
    return vectors


def _viewer_sums(viewer: Integers, video: Integers, vectors: Vectors) -> Vectors:
    """Return the sum of what each viewer watched over the root of its number, (viewers, r)."""
    _, first, number = np.unique(viewer, return_index=True, return_counts=True)
    sums = np.add.reduceat(vectors[video], first)
    sums /= np.sqrt(number)[:, None]
    return sums


def _best_strength(
    viewer: Integers, video: Integers, last: NDArray[np.bool_], vectors: Vectors
) -> float:
    """Say how strong the vectors should be to rank what viewers watched last.

    The mean of log(1 + rank) is least, ranked by strength * products + log(1 + how often each was
    watched before), among what the viewer had not watched before.
    """
    earlier = ~last
    several = np.isin(viewer, viewer[earlier])
    judged = np.unique(viewer[several])
    judged = judged[:: max(1, -(-len(judged) // _JUDGED))]
    if not len(judged):
        return 0.0
    popular = torch.from_numpy(np.log1p(np.bincount(video[earlier], minlength=len(vectors))))
    log_rank = torch.zeros(len(_STRENGTHS), dtype=torch.float64)
    together = max(1, _PAIRS_TOGETHER // len(vectors))
    for some in np.split(judged, range(together, len(judged), together)):
        mine = np.isin(viewer, some)
        sums = _viewer_sums(viewer[mine & earlier], video[mine & earlier], vectors)
        products = torch.from_numpy(sums @ vectors.T)
        seen = torch.from_numpy(np.searchsorted(some, viewer[mine & earlier]))
        base = popular.float().repeat(len(some), 1)
        base[seen, torch.from_numpy(video[mine & earlier])] = -torch.inf
        target = torch.from_numpy(video[mine & last]).unsqueeze(1)
        for place, strength in enumerate(_STRENGTHS):
            scores = torch.add(base, products, alpha=strength)
            rank = (scores > scores.gather(1, target)).sum(1)
            log_rank[place] += torch.log1p(rank.double()).sum()
    return _STRENGTHS[int(log_rank.argmin())]


def _spread_of_products(viewers: Vectors, videos: Vectors) -> float:
    """Return the standard deviation of viewer . video over all pairs."""
    second = np.sum((viewers.T @ viewers / len(viewers)) * (videos.T @ videos / len(videos)))
    mean = viewers.mean(0) @ videos.mean(0)
    return float(max(second - mean**2, 0.0) ** 0.5)
