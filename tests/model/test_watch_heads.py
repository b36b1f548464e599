"""Heads for watch time: worked by hand, and each finds what one input tells."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skipwise.errors import SettingError
from skipwise.model.watch_heads import (
    NUM_THRESHOLDS,
    WATCH_HEADS,
    Classified,
    DurationQuantile,
    LogSeconds,
    Standardised,
    WatchTimeGain,
)
from tests.models import tiny_settings

pytestmark = pytest.mark.usefixtures("one_thread")

AT_MOST_S = 300.0
SHORT = torch.linspace(0, 10, 101)
"""Watches of bucket 1; those of bucket 2 last ten times as long."""
WATCH = torch.cat([SHORT, 10 * SHORT])
BUCKET = torch.cat([torch.ones(101), torch.full((101,), 2.0)]).long()


def raw(*values: float) -> Tensor:
    return torch.tensor([[value] for value in values])


def test_a_rank_is_turned_into_seconds_by_the_buckets_own_quantiles() -> None:
    head = DurationQuantile(3)
    head.fit(WATCH, BUCKET)
    guess = head.read(raw(0.0, 0.0, 50.0), torch.tensor([1, 2, 2]), AT_MOST_S)
    torch.testing.assert_close(guess.expected_s, torch.tensor([5.0, 50.0, 100.0]))


def test_a_rank_is_right_where_it_is_the_share_of_shorter_watches() -> None:
    head = DurationQuantile(3)
    head.fit(WATCH, BUCKET)
    loss = head.read(raw(0.0, 0.0), torch.tensor([1, 2]), AT_MOST_S).loss
    right, wrong = loss(torch.tensor([5.0, 50.0])), loss(torch.tensor([10.0, 5.0]))
    assert float(right.max()) < 1e-4
    torch.testing.assert_close(wrong, torch.tensor([0.25, 0.2025]), atol=0.01, rtol=0)


def test_a_bucket_with_few_watches_is_read_as_all() -> None:
    head = DurationQuantile(4)
    head.fit(torch.cat([WATCH, torch.tensor([250.0])]), torch.cat([BUCKET, torch.tensor([3])]))
    quantiles = np.quantile([*WATCH.tolist(), 250.0], np.linspace(0, 1, 101))
    np.testing.assert_allclose(head.quantile_s[3], quantiles, rtol=1e-5)


def test_watch_time_gain_is_measured_in_the_buckets_own_spread() -> None:
    head = WatchTimeGain(3)
    head.fit(WATCH, BUCKET)
    spread = float(SHORT.std(correction=0))
    guess = head.read(raw(1.0, 1.0), torch.tensor([1, 2]), AT_MOST_S)
    torch.testing.assert_close(guess.expected_s, torch.tensor([5 + spread, 50 + 10 * spread]))
    loss = guess.loss(torch.tensor([5.0, 50.0]))
    torch.testing.assert_close(loss, torch.ones(2))


def test_plain_regression_knows_no_bucket() -> None:
    head = Standardised(3)
    head.fit(WATCH, BUCKET)
    guess = head.read(raw(0.0, 0.0), torch.tensor([1, 2]), AT_MOST_S)
    torch.testing.assert_close(guess.expected_s, WATCH.mean().expand(2))


def test_cread_adds_up_what_is_stayed_for() -> None:
    head = Classified(3)
    head.fit(WATCH, BUCKET)
    assert float(head.edge_s[0]) == 0
    assert float(head.edge_s[-1]) == 100
    assert (head.edge_s.diff() >= 0).all()
    surely = torch.full((1, NUM_THRESHOLDS), -40.0)
    surely[0, :5] = 40.0
    guess = head.read(surely, torch.tensor([1]), AT_MOST_S)
    torch.testing.assert_close(guess.expected_s, head.edge_s[5].view(1))
    between = (head.edge_s[4] + head.edge_s[5]) / 2
    error_s = head.edge_s[5] - between
    huber = float(error_s - 0.5 if error_s > 1 else error_s**2 / 2)
    torch.testing.assert_close(
        guess.loss(between.view(1)), torch.tensor([huber / 100]), atol=1e-5, rtol=1e-4
    )


def test_cread_asks_for_order() -> None:
    """Sure to stay past the last threshold and not past those before costs more than the bits."""
    head = Classified(3)
    head.fit(WATCH, BUCKET)
    rising = torch.linspace(-3, 3, NUM_THRESHOLDS).unsqueeze(0)
    disorder = (rising.sigmoid().diff()).mean()
    asked = nn.functional.binary_cross_entropy_with_logits(rising, torch.zeros_like(rising))
    watch = torch.zeros(1)
    expected_s = float((rising.sigmoid() * head.edge_s.diff()).sum())
    huber = (expected_s - 0.5) / 100
    loss = head.read(rising, torch.tensor([1]), AT_MOST_S).loss(watch)
    assert float(loss) == pytest.approx(float(asked) + huber + float(disorder), rel=1e-4)


def test_log_seconds_is_half_the_square_of_a_small_log_error() -> None:
    loss = LogSeconds(1).read(raw(1.0), torch.tensor([0]), AT_MOST_S).loss(torch.zeros(1))
    torch.testing.assert_close(loss, torch.tensor([0.5]))


@pytest.mark.parametrize("name", WATCH_HEADS)
def test_every_head_finds_what_one_input_tells(name: str) -> None:
    """An input says half of a watch; after some steps long and short are apart, and in seconds."""
    torch.manual_seed(0)
    told = torch.rand(400, 1)
    watch_s = (told.squeeze(1) * 40 + torch.rand(400) * 10).clamp(min=0)
    bucket = torch.ones(400, dtype=torch.int64)
    head = WATCH_HEADS[name](2)
    head.fit(watch_s, bucket)
    network = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, head.outputs))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(200):
        loss = head.read(network(told), bucket, AT_MOST_S).loss(watch_s).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    expected_s = head.read(network(told), bucket, AT_MOST_S).expected_s.detach()
    assert np.corrcoef(expected_s, watch_s)[0, 1] > 0.9
    assert float((expected_s - watch_s).abs().mean()) < 4.5
    assert float((watch_s.mean() - watch_s).abs().mean()) > 9


@pytest.mark.parametrize("name", WATCH_HEADS)
def test_an_unknown_watch_is_no_nan(name: str) -> None:
    head = WATCH_HEADS[name](2)
    head.fit(WATCH, BUCKET.clamp(max=1))
    outputs = torch.zeros(1, head.outputs, requires_grad=True)
    loss = head.read(outputs, torch.tensor([0]), AT_MOST_S).loss(torch.tensor([float("nan")]))
    assert loss.isfinite().all()


def test_a_head_beside_a_curve_is_refused() -> None:
    with pytest.raises(SettingError, match=r"objectives.watch = 'd2q' with relation = 'curve'"):
        tiny_settings("model.objectives.relation=curve", "model.objectives.watch=d2q")
