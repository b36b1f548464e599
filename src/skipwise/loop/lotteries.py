"""What could the lotteries of a log have drawn, and how likely was what they drew?

    rows of policy `random`, what the user says of them  ->  lotteries_of  ->  Lotteries

- Two kinds are known. *One lottery over all*: every video of a pool was as likely, at every place,
  as in KuaiRand's `log_random` and simulated logs. *A lottery at each request*: it drew from that
  request's candidates, with the propensity that stands beside the row, as our own server's.
- What a log does not tell and nobody says is not guessed: refused.

Reads `errors`; is read by `replay`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from skipwise.errors import DatasetError
from skipwise.evaluation.bootstrap import Floats
from skipwise.evaluation.offpolicy import Pool
from skipwise.serving.wire import CANDIDATES_AT_MOST

ALIKE = 1.01
"""Propensities within so much of each other are those of one lottery."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lotteries:
    """How what was shown at random was drawn."""

    pool: tuple[str, ...] | None
    """Ids of the videos of the one lottery over all; None = each request had its own candidates."""
    propensity: Floats
    """(N,) of each row, given that a lottery decided; NaN where a pool says it."""
    candidates: int
    """The most that one request had, by its propensities; those of the pool, where there is one."""


def lotteries_of(
    rows: pa.Table, catalogue: Sequence[str], uniform: Pool | None = None
) -> Lotteries:
    """Say how rows were drawn.

    Without `uniform` it is one lottery over all when all propensities are the same and no larger
    than 1 / videos that were shown: a lottery over fewer could not have shown them all.

    Args:
        rows: With `video_id`, `propensity` and `position`, all of policy `random`.
        catalogue: Ids of the video table.
        uniform: Whoever has the log says: one lottery, over the videos that the rows show or over
            the catalogue.

    Raises:
        DatasetError: There is no row, a propensity is missing, `uniform` is contradicted, or
            nothing else could have been drawn.
    """
    if not rows.num_rows:
        raise DatasetError(
            "No row of the log was drawn at random on these days; such rows are needed to say what "
            "another order would have brought: where the policy always does the same, nothing is "
            "known of what it does not do. Give a log with policy = random, as KuaiRand's "
            "log_random, or serve with serving.slate.explore_share above 0."
        )
    given = np.asarray(rows["propensity"].to_numpy(zero_copy_only=False), dtype=np.float64)
    missing = int(np.isnan(given).sum())
    if missing and uniform is None:
        raise DatasetError(
            f"{missing:,} of {rows.num_rows:,} rows drawn at random have no propensity; each needs "
            "the probability with which it was drawn. Write the column, or, where all videos were "
            "as likely at all times, say so with --uniform."
        )
    known = given[~np.isnan(given)]
    same = not known.size or known.max() <= ALIKE * known.min()
    if uniform is not None and not same:
        raise DatasetError(
            f"propensities lie between {known.min():.3g} and {known.max():.3g}; with --uniform "
            "they must be equal. Leave --uniform out: each row is then judged by its own."
        )
    if known.size and known.min() == 1.0:
        raise DatasetError(
            "every propensity is 1, so nothing else could have been shown; a lottery must have had "
            "two candidates at least. Serve with serving.slate.explore_share above 0 and send "
            "policy and propensity of each item back with its event."
        )
    shown = sorted(set(rows["video_id"].to_pylist()))
    if uniform is not None or (same and known.max() * len(shown) <= ALIKE):
        videos = _pool_of(shown, catalogue, uniform or "shown")
        return Lotteries(
            pool=videos, propensity=np.full(len(given), np.nan), candidates=len(videos)
        )
    position = np.asarray(rows["position"].to_numpy(zero_copy_only=False), dtype=np.float64)
    most = np.rint(1.0 / given) + np.nan_to_num(position)
    candidates = int(min(most.max(), CANDIDATES_AT_MOST))
    return Lotteries(pool=None, propensity=given, candidates=candidates)


def _pool_of(shown: list[str], catalogue: Sequence[str], pool: Pool) -> tuple[str, ...]:
    if pool == "shown":
        return tuple(shown)
    strange = sorted(set(shown) - set(catalogue))
    if strange:
        raise DatasetError(
            f"video {strange[0]} was drawn and is not in the video table; with --pool catalogue "
            "every one must be. Add it there, or leave --pool out."
        )
    return tuple(sorted(set(catalogue)))
