"""Events are cut into blocks that each read themselves and a window before them."""

import pytest
import torch

from skipwise.model.band import Band


@pytest.fixture(autouse=True, params=[64, 3])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ten events are one block of attention, or four that each read W back."""
    monkeypatch.setattr("skipwise.model.band.BLOCK_AT_LEAST", request.param)
    return int(request.param)


def test_the_cut_is_by_blocks_where_a_stretch_is_long(block: int) -> None:
    band = Band.of(10, 4)
    assert (band.blocks > 1) is (block == 3)
    values = torch.arange(20.0).view(2, 10)
    torch.testing.assert_close(band.whole(band.ask(values)), values)
    if block == 3:
        assert (band.blocks, band.back) == (4, 3)
        assert band.read(values, -1.0)[0].tolist() == [-1, -1, -1, 0, 1, 2]
        assert band.read(values, -1.0)[5].tolist() == [10, 11, 12, 13, 14, 15]
        assert band.read(values, -1.0)[7].tolist() == [16, 17, 18, 19, -1, -1]


def test_events_before_are_read_and_do_not_ask(block: int) -> None:
    """Twelve events, W = 4, of which the first two do not ask."""
    band = Band.of(10, 4, before=2)
    values = torch.arange(12.0).view(1, 12)
    asking = band.asking(values)
    assert asking[0].tolist() == list(range(2, 12))
    torch.testing.assert_close(band.whole(band.ask(asking)), asking)
    asked, read = band.ask(asking, -1.0), band.read(values, -1.0)
    there = (asked[:, :, None] >= 0) & (read[:, None, :] >= 0)
    steps_back = asked[:, :, None] - read[:, None, :]
    told = band.steps_back.expand(len(read), -1, -1)
    assert torch.equal(steps_back[there], told[there].float())
    assert (band.blocks > 1) is (block == 3)
    if block == 3:
        assert read[0].tolist() == [-1, 0, 1, 2, 3, 4]
