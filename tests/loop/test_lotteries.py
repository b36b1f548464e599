"""What a log tells of its lotteries, what must be said, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from skipwise.errors import DatasetError
from skipwise.loop.lotteries import lotteries_of

CATALOGUE = ("a", "b", "c", "d", "e", "f")


def drawn(propensity: list[float | None], video_id: str = "abca") -> pa.Table:
    return pa.table(
        {
            "video_id": list(video_id)[: len(propensity)],
            "propensity": pa.array(propensity, pa.float64()),
            "position": pa.array([0, 1, 2, None][: len(propensity)], pa.int32()),
        }
    )


def test_equal_propensities_that_allow_all_that_was_shown_are_one_lottery() -> None:
    found = lotteries_of(drawn([1 / 6] * 4), CATALOGUE)
    assert found.pool == ("a", "b", "c")
    assert found.candidates == 3


def test_propensities_of_requests_of_their_own_are_kept_row_by_row() -> None:
    """The second place was drawn from what the first had left: ten candidates at the request."""
    given: list[float | None] = [1 / 10, 1 / 9, 1 / 7, 1 / 8]
    found = lotteries_of(drawn(given), CATALOGUE)
    assert found.pool is None
    np.testing.assert_array_equal(found.propensity, np.array(given, dtype=float))
    assert found.candidates == 10


def test_a_lottery_over_fewer_than_were_shown_was_not_one_over_all() -> None:
    assert lotteries_of(drawn([1 / 2] * 4), CATALOGUE).pool is None


def test_what_the_log_does_not_say_can_be_said() -> None:
    unknown = drawn([None] * 4)
    assert lotteries_of(unknown, CATALOGUE, "shown").pool == ("a", "b", "c")
    assert lotteries_of(unknown, CATALOGUE, "catalogue").pool == CATALOGUE


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (drawn([]), "No row of the log was drawn at random .* serving.slate.explore_share"),
        (
            drawn([0.1, None, 0.2, None]),
            r"2 of 4 rows drawn at random have no propensity.*--uniform",
        ),
        (drawn([None] * 4), "4 of 4 rows drawn at random have no propensity"),
        (drawn([1.0] * 4), "every propensity is 1, so nothing else could have been shown"),
    ],
)
def test_what_cannot_be_answered_is_refused(rows: pa.Table, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        lotteries_of(rows, CATALOGUE)


def test_what_is_said_must_not_contradict_the_log() -> None:
    with pytest.raises(DatasetError, match=r"lie between 0.1 and 0.2; with --uniform they must be"):
        lotteries_of(drawn([0.1, 0.2, None, None]), CATALOGUE, "shown")
    with pytest.raises(DatasetError, match="video c was drawn and is not in the video table"):
        lotteries_of(drawn([None] * 4), ("a", "b"), "catalogue")
