"""The encoder and the reader: equation by equation against plain loops, causal, and bounded."""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from skipwise.errors import SettingError
from skipwise.model.encoder import HistoryEncoder
from skipwise.model.encoder_settings import EncoderSettings, check_heads
from skipwise.model.reader import CandidateReader
from skipwise.model.reading import (
    LAG_KNOTS,
    NUM_GROUPS,
    NUM_MATCHES,
    STEP_KNOTS,
    Reading,
    bends,
    lag_s,
    visible_window,
)
from skipwise.model.rows import slots_of

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, HEADS, PER_HEAD = 8, 2, 4
UNKNOWN = float("nan")

Module = TypeVar("Module", bound=nn.Module)


@pytest.fixture(autouse=True, params=[64, 3])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ten events are one block of attention, or four that each read W back."""
    monkeypatch.setattr("skipwise.model.band.BLOCK_AT_LEAST", request.param)
    return int(request.param)


@dataclass(frozen=True)
class Past:
    """Two stretches of ten events (B, T), the second of which ends in three places of padding."""

    events: Tensor
    groups: Tensor
    time_s: Tensor
    valid: Tensor

    def encoded(self, encoder: HistoryEncoder, read_from: int = 0) -> Tensor:
        with torch.no_grad():
            encoded: Tensor = encoder(
                self.events, self.groups, self.time_s, self.valid, read_from=read_from
            )
        return encoded


def past(seed: int = 0) -> Past:
    generator = torch.Generator().manual_seed(seed)
    time_s_BT = torch.rand(2, 10, generator=generator, dtype=torch.float64).mul(1e5).cumsum(1)
    time_s_BT[0, :2] = UNKNOWN
    valid_BT = torch.ones(2, 10, dtype=torch.bool)
    valid_BT[1, 7:] = False
    return Past(
        torch.randn(2, 10, WIDTH, generator=generator) * valid_BT.unsqueeze(-1),
        torch.randint(0, NUM_GROUPS, (2, 10), generator=generator),
        time_s_BT.masked_fill(~valid_BT, UNKNOWN),
        valid_BT,
    )


def with_random_weights(module: Module) -> Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in module.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.4)
    return module.eval()


def encoder_of(**changes: object) -> HistoryEncoder:
    settings = replace(EncoderSettings(history_length=4, heads=HEADS), **changes)  # type: ignore[arg-type]
    return with_random_weights(HistoryEncoder(WIDTH, settings))


def far(lag: float, steps: int) -> Tensor:
    """What the weights of distance are multiplied with: is the time unknown, lag, steps."""

    def bent(amount: float, knots: tuple[float, ...]) -> list[float]:
        return [max(math.log2(1 + amount) - knot, 0) / 10 for knot in knots]

    unknown = math.isnan(lag)
    lags = bent(0.0 if unknown else max(lag, 0), LAG_KNOTS)
    return torch.tensor([float(unknown), *lags, *bent(max(steps, 0), STEP_KNOTS)])


def heads_of(values_D: Tensor) -> Tensor:
    return values_D.view(HEADS, PER_HEAD)


@torch.no_grad()
def plainly_encoded(encoder: HistoryEncoder, one: Past, stretch: int) -> Tensor:
    """Evaluate the module's equation for one stretch, one event and one pair at a time."""
    states = list(one.events[stretch])
    for block in encoder.blocks:
        states = [
            plain_block(block, states, event, one, stretch, encoder.window)
            for event in range(len(states))
        ]
    normed: Tensor = encoder.norm(torch.stack(states))
    return normed


def plain_block(
    block: Any, states: list[Tensor], i: int, one: Past, stretch: int, window: int
) -> Tensor:
    """Return event i after one block."""
    groups, times = one.groups[stretch].tolist(), one.time_s[stretch]

    def projected(event: int, part: int) -> Tensor:
        return heads_of(block.query_key_value(block.norm_attention(states[event])).chunk(3)[part])

    reads = []
    for head in range(HEADS):
        logits, values = [], []
        for j in range(max(0, i - window + 1), i + 1):
            pair = groups[i], groups[j]
            key = projected(j, 1)[head] + block.pair_key[(*pair, head)]
            logits.append(
                projected(i, 0)[head] @ key / math.sqrt(PER_HEAD)
                + block.pair[(*pair, head)]
                + (block.distance.weight @ far(float(times[i] - times[j]), i - j))[head]
            )
            values.append(projected(j, 2)[head] + block.pair_value[(*pair, head)])
        reads.append(torch.stack(logits).softmax(0) @ torch.stack(values))
    state: Tensor = states[i] + block.output(torch.cat(reads))
    fed: Tensor = state + block.feed(block.norm_feed(state))
    return fed


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_encoder_is_its_equation(blocks: int) -> None:
    encoder, one = encoder_of(blocks=blocks), past()
    encoded = one.encoded(encoder)
    torch.testing.assert_close(encoded[0], plainly_encoded(encoder, one, 0), atol=1e-5, rtol=1e-5)
    short = plainly_encoded(encoder, one, 1)
    torch.testing.assert_close(encoded[1, :7], short[:7], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_future_cannot_change_the_past(blocks: int) -> None:
    """Editing event 4 leaves every state before it exactly as it was."""
    encoder, one = encoder_of(blocks=blocks), past()
    events_BTD, groups_BT, time_s_BT = (
        each.clone() for each in (one.events, one.groups, one.time_s)
    )
    events_BTD[:, 4] = -events_BTD[:, 4]
    groups_BT[:, 4] = (groups_BT[:, 4] + 1) % NUM_GROUPS
    time_s_BT[:, 4] += 500.0
    before = one.encoded(encoder)
    after = Past(events_BTD, groups_BT, time_s_BT, one.valid).encoded(encoder)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=0)
    assert (before[:, 4] != after[:, 4]).any(-1).all()  # and the edit was seen


@pytest.mark.parametrize("blocks", [1, 2])
def test_an_event_reaches_as_far_as_the_window_and_the_blocks(blocks: int) -> None:
    """With W = 4, event 0 reaches 3 (W - 1) further events per block."""
    encoder, one = encoder_of(blocks=blocks), past()
    events_BTD = one.events.clone()
    events_BTD[0, 0] = -events_BTD[0, 0]
    before, after = one.encoded(encoder), replace(one, events=events_BTD).encoded(encoder)
    changed = (before != after).any(-1)[0].tolist()
    assert changed == [place <= 3 * blocks for place in range(10)]


def test_padding_changes_nothing() -> None:
    encoder, one = encoder_of(blocks=2), past()
    padding = ~one.valid
    garbled = Past(
        one.events + padding.unsqueeze(-1) * 7.0,
        one.groups.masked_fill(padding, 2),
        one.time_s.masked_fill(padding, 5.0),
        one.valid,
    )
    before, after = one.encoded(encoder), garbled.encoded(encoder)
    torch.testing.assert_close(before[one.valid], after[one.valid], rtol=0, atol=0)
    assert before.isfinite().all()


def test_a_hidden_event_is_read_by_no_other() -> None:
    """Training hides events in the middle of a stretch: what they held reaches nobody."""
    encoder = encoder_of(blocks=2)
    valid = past().valid.clone()
    valid[:, 3] = False
    one = replace(past(), valid=valid)
    events = one.events.clone()
    events[:, 3] = -events[:, 3]
    before, after = one.encoded(encoder), replace(one, events=events).encoded(encoder)
    others = torch.arange(10) != 3
    torch.testing.assert_close(before[:, others], after[:, others], rtol=0, atol=0)
    assert not torch.equal(before, past().encoded(encoder)), "and hiding it was noticed"


@pytest.mark.parametrize("read_from", range(1, 10))
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_events_that_are_read_are_the_same_where_others_are_not_asked(
    blocks: int, read_from: int
) -> None:
    """With W = 4 a block is asked for the 3 events more that each block above it reads."""
    encoder, one = encoder_of(blocks=blocks), past()
    asked: list[int] = []
    for block in encoder.blocks:
        block.norm_feed.register_forward_hook(lambda *given: asked.append(given[2].shape[1]))  # type: ignore[union-attr]
    every, read = one.encoded(encoder), one.encoded(encoder, read_from)
    torch.testing.assert_close(read[:, read_from:], every[:, read_from:], atol=1e-5, rtol=1e-5)
    assert not read[:, :read_from].any()
    above = reversed(range(blocks))
    assert asked == [10] * blocks + [10 - max(read_from - 3 * number, 0) for number in above]


@pytest.mark.parametrize("pair_biases", [True, False])
def test_the_feedback_pair_is_known_to_attention_unless_told_otherwise(pair_biases: bool) -> None:
    encoder, one = encoder_of(pair_biases=pair_biases), past()
    other = replace(one, groups=(one.groups + 1) % NUM_GROUPS)
    assert torch.equal(one.encoded(encoder), other.encoded(encoder)) is not pair_biases


def test_without_encoding_events_are_only_normalised() -> None:
    encoder, one = encoder_of(encode=False), past()
    torch.testing.assert_close(one.encoded(encoder), encoder.norm(one.events))
    assert EncoderSettings(history_length=9, encode=False).reach == 9


def reading_of(one: Past, prefix_M: Tensor, stretch_M: Tensor, window: int) -> Reading:
    """Lay candidates out as the model does, with matches drawn at random."""
    generator = torch.Generator().manual_seed(2)
    slot, num_slots = slots_of(stretch_M, 2)
    prefix_BC = torch.zeros(2, num_slots, dtype=torch.int64)
    prefix_BC[stretch_M, slot] = prefix_M
    visible_BCT, back_BCT = visible_window(prefix_BC, 10, window)
    requested_s_BC = 1e6 + torch.rand(2, num_slots, generator=generator, dtype=torch.float64) * 1e6
    requested_s_BC[0, 1] = UNKNOWN
    matches_BNCT = torch.randint(
        0, 2, (2, NUM_MATCHES, *visible_BCT.shape[1:]), generator=generator
    )
    return Reading(
        stretch=stretch_M,
        slot=slot,
        num_slots=num_slots,
        num_stretches=2,
        visible_BCT=visible_BCT,
        back_BCT=back_BCT,
        matches=tuple(matches_BNCT.bool().unbind(1)),
        groups_BTG=functional.one_hot(one.groups, NUM_GROUPS).float(),
        time_s_BT=one.time_s,
        requested_s_BC=requested_s_BC,
    )


STRETCH_M = torch.tensor([0, 0, 0, 1, 1])
PREFIX_M = torch.tensor([0, 3, 10, 1, 7])


def reader_of(**changes: object) -> CandidateReader:
    settings = replace(EncoderSettings(history_length=4, heads=HEADS), **changes)  # type: ignore[arg-type]
    return with_random_weights(CandidateReader(WIDTH, settings))


@torch.no_grad()
def plainly_read(
    reader: CandidateReader, query_D: Tensor, history_TD: Tensor, reading: Reading, place: int
) -> tuple[Tensor, Tensor]:
    """Evaluate one candidate's reading one event at a time; returns it and (H, 1 + T) attention."""
    stretch, slot = int(reading.stretch[place]), int(reading.slot[place])
    query = heads_of(reader.query(query_D))
    no_key, no_value = (heads_of(part) for part in reader.no_past.chunk(2))
    reads, attention = [], torch.zeros(HEADS, 1 + len(history_TD))
    for head in range(HEADS):
        logits = [query[head] @ no_key[head] / math.sqrt(PER_HEAD)]
        values, seen = [no_value[head]], [0]
        for event in torch.nonzero(reading.visible_BCT[stretch, slot]).flatten().tolist():
            key, value = (
                heads_of(part)[head] for part in reader.key_value(history_TD[event]).chunk(2)
            )
            group = int(reading.groups_BTG[stretch, event].argmax())
            matches = torch.stack([each[stretch, slot, event] for each in reading.matches]).float()
            lag = float(reading.requested_s_BC[stretch, slot] - reading.time_s_BT[stretch, event])
            distance = far(lag, int(reading.back_BCT[stretch, slot, event]))
            logits.append(
                query[head] @ key / math.sqrt(PER_HEAD)
                + matches @ reader.match[head, :, group]
                + reader.group[head, group]
                + (reader.distance.weight @ distance)[head]
            )
            values.append(value)
            seen.append(1 + event)
        weights = torch.stack(logits).softmax(0)
        attention[head, seen] = weights
        reads.append(weights @ torch.stack(values))
    normed: Tensor = reader.norm(reader.output(torch.cat(reads)))
    return normed, attention


def test_the_reader_is_its_equation() -> None:
    reader, one = reader_of(), past()
    reading = reading_of(one, PREFIX_M, STRETCH_M, 4)
    queries_QMD = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        read_QMD, attention_QMHT = reader.attend(queries_QMD, one.events, reading)
        torch.testing.assert_close(reader(queries_QMD, one.events, reading), read_QMD)
    for query in range(2):
        for place in range(5):
            history_TD = one.events[STRETCH_M[place]]
            read, attention = plainly_read(
                reader, queries_QMD[query, place], history_TD, reading, place
            )
            torch.testing.assert_close(read_QMD[query, place], read, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(
                attention_QMHT[query, place], attention, atol=1e-5, rtol=1e-5
            )


def test_only_the_last_visible_events_are_read() -> None:
    """With W = 4, the candidate with 10 visible events reads numbers 6 to 9 and "no past"."""
    reader, one = reader_of(), past()
    reading = reading_of(one, PREFIX_M, STRETCH_M, 4)
    queries_QMD = torch.randn(1, 5, WIDTH)
    with torch.no_grad():
        _, attention_QMHT = reader.attend(queries_QMD, one.events, reading)
    read = (attention_QMHT[0] > 0).all(1)
    assert read[0].tolist() == [True, *[False] * 10]
    assert read[1].tolist() == [True, *[True] * 3, *[False] * 7]
    assert read[2].tolist() == [True, *[False] * 6, *[True] * 4]
    torch.testing.assert_close(attention_QMHT.sum(-1), torch.ones(1, 5, HEADS))


def test_without_a_past_the_history_says_nothing() -> None:
    reader, one = reader_of(), past()
    reading = reading_of(one, PREFIX_M * 0, STRETCH_M, 4)
    queries_QMD = torch.randn(1, 5, WIDTH)
    with torch.no_grad():
        here = reader(queries_QMD, one.events, reading)
        there = reader(queries_QMD, one.events + 3.0, reading)
    assert torch.equal(here, there)
    assert here.isfinite().all()


def test_candidates_are_numbered_within_their_stretch() -> None:
    places, most = slots_of(torch.tensor([0, 0, 2, 2, 2]), 4)
    assert places.tolist() == [0, 1, 0, 1, 2]
    assert most == 3


def test_the_visible_window_is_the_end_of_the_prefix() -> None:
    visible_BCT, back_BCT = visible_window(torch.tensor([[0, 2, 5]]), 5, 3)
    assert visible_BCT[0].long().tolist() == [[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert back_BCT[0, 2].tolist() == [4, 3, 2, 1, 0]


def test_distance_is_in_logarithms_whose_slope_may_change() -> None:
    """63 s: log2 64 = 6, none above the minute's knot; 4095 s: 12, which is 6 above it."""
    found = bends(torch.tensor([[[63.0, 4095.0, 0.0]]]), LAG_KNOTS)
    expected = torch.tensor([[6, 12, 0], [0, 6, 0], [0, 0, 0], [0, 0, 0]]).float()
    torch.testing.assert_close(found[:, 0, 0] * 10, expected, atol=1e-5, rtol=1e-5)


def test_a_lag_is_exact_years_after_1970_and_0_where_it_is_not_known() -> None:
    now_s = torch.tensor([[1.65e9 + 0.25, UNKNOWN]], dtype=torch.float64)
    then_s = torch.tensor([[1.65e9, 1.65e9 + 9, UNKNOWN]], dtype=torch.float64)
    assert lag_s(now_s, then_s).tolist() == [[[0.25, 0, 0], [0, 0, 0]]]


def test_farther_is_never_nearer() -> None:
    found = bends(torch.linspace(0, 1e6, 1000).view(1, 1, -1), LAG_KNOTS)
    assert (found.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize(("width", "heads"), [(8, 3), (2, 4)])
def test_heads_that_do_not_divide_the_width_are_refused(width: int, heads: int) -> None:
    with pytest.raises(SettingError, match=rf"^width = {width} is not .*heads = {heads};"):
        check_heads(width, EncoderSettings(heads=heads))
