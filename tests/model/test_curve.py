"""The watch curve: hand-worked, against plain integration, and never contradicting itself."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from skipwise.labels.grid import GRID_S
from skipwise.model.curve import NUM_HAZARDS, REPLAY_RATE_AT_MOST, WatchCurve
from skipwise.model.objectives import Cuts, cut_logits

UNKNOWN = float("nan")

pytestmark = pytest.mark.usefixtures("one_thread")


def seconds(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_curve(*durations_s: float, seed: int = 0) -> WatchCurve:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(len(durations_s), NUM_HAZARDS, generator=generator, dtype=torch.float64)
    return WatchCurve.from_outputs(outputs - 1.5, seconds(*durations_s))


def constant_curve(drop: float, replay: float, *durations_s: float) -> WatchCurve:
    """A curve that loses the same log-share `drop` in every bin of the grid."""
    log_survival = -drop * torch.arange(len(GRID_S), dtype=torch.float64)
    return WatchCurve(
        log_survival.expand(len(durations_s), -1),
        torch.full((len(durations_s),), replay, dtype=torch.float64),
        seconds(*durations_s),
    )


def at(curve: WatchCurve, value_s: float) -> Tensor:
    return curve.survival(torch.full_like(curve.duration_s_M, value_s))


def test_outputs_become_survival_by_softplus() -> None:
    """An output of 0 in every bin: each takes a share of log 2, so S(edge k) = 2^-k."""
    curve = WatchCurve.from_outputs(torch.zeros(1, NUM_HAZARDS, dtype=torch.float64), seconds(1e3))
    assert at(curve, 0.0).item() == 1.0
    assert at(curve, 0.25).item() == pytest.approx(0.5)
    assert at(curve, 1.0).item() == pytest.approx(0.5**4)
    assert at(curve, 3.0).item() == pytest.approx(0.5 ** GRID_S.index(3.0))
    assert curve.replay_rate_M.item() == pytest.approx(math.log(2) + 1e-3)


def test_inside_a_bin_the_logarithm_falls_in_a_straight_line() -> None:
    """Between 2.0 s (edge 8) and 2.5 s (edge 9), 2.2 s lies at 0.4 of the bin."""
    curve = constant_curve(0.3, 1.0, 60.0)
    assert at(curve, 2.2).item() == pytest.approx(math.exp(-0.3 * (8 + 0.4)))


def test_past_the_end_the_replay_rate_counts_per_duration() -> None:
    """d = 10 s at edge 20; 15 s is half a duration past the end, at rate 2: exp(-20 x 0.1 - 1)."""
    curve = constant_curve(0.1, 2.0, 10.0)
    assert GRID_S.index(10.0) == 20
    assert at(curve, 10.0).item() == pytest.approx(math.exp(-2.0))
    assert at(curve, 15.0).item() == pytest.approx(math.exp(-2.0 - 1.0))


def test_a_video_without_a_known_end_has_none() -> None:
    curve = constant_curve(0.1, 2.0, UNKNOWN)
    assert at(curve, 300.0).item() == pytest.approx(math.exp(-0.1 * (len(GRID_S) - 1)))
    assert at(curve, 1e6).item() == at(curve, 300.0).item()


@pytest.mark.parametrize("seed", range(3))
def test_survival_starts_at_one_and_never_rises(seed: int) -> None:
    durations_s = (0.3, 2.0, 7.3, 60.0, 299.0, 1000.0, UNKNOWN)
    curve = random_curve(*durations_s, seed=seed)
    times_s = np.concatenate([np.linspace(0, 12, 500), np.geomspace(12, 1e4, 500)])
    survival = torch.stack([at(curve, time_s) for time_s in times_s])
    assert (survival[0] == 1).all()
    assert (survival.diff(dim=0) <= 1e-15).all()
    assert (survival >= 0).all()
    assert (survival[300] < survival[0]).all()


@pytest.mark.parametrize("duration_s", [2.3, 10.0, 45.0, 250.0])
def test_the_chances_of_leaving_in_any_bin_or_staying_make_one(duration_s: float) -> None:
    """Every grid bin that begins before the end, and reaching the end."""
    curve = random_curve(duration_s)
    starts = [edge for edge in GRID_S if edge < duration_s]
    left = [curve.log_likelihood(seconds(edge)).exp().item() for edge in starts]
    assert sum(left) + at(curve, duration_s).item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("duration_s", [0.4, 2.3, 10.0, 45.0, 250.0, 300.0, 480.0, UNKNOWN])
@pytest.mark.parametrize("up_to_s", [300.0, 20.0, 500.0])
def test_expected_watch_is_the_integral_of_survival(duration_s: float, up_to_s: float) -> None:
    """The trapezium rule on 400,000 points; the tail past the end bends most, a short clip's."""
    curve = random_curve(duration_s)
    times_s = torch.linspace(0, up_to_s, 400_001, dtype=torch.float64)
    many = WatchCurve(
        curve.log_survival_MK.expand(len(times_s), -1),
        curve.replay_rate_M.expand(len(times_s)),
        curve.duration_s_M.expand(len(times_s)),
    )
    integral = torch.trapezoid(many.survival(times_s), times_s).item()
    assert curve.expected_watch_s(up_to_s).item() == pytest.approx(integral, rel=1e-4)


@pytest.mark.parametrize(
    ("watch_s", "start_s", "stop_s"),
    [
        (0.0, 0.0, 0.25),
        (0.1, 0.0, 0.25),
        (0.25, 0.25, 0.5),
        (2.99, 2.5, 3.0),
        (3.0, 3.0, 3.5),
        (45.0, 40.0, 47.5),  # the bin [40, 50) is cut by the end at 47.5 s
        (47.4, 40.0, 47.5),
    ],
)
def test_a_watch_that_ended_early_has_the_chance_of_its_bin(
    watch_s: float, start_s: float, stop_s: float
) -> None:
    curve = random_curve(47.5)
    chance = (at(curve, start_s) - at(curve, stop_s)).item()
    assert curve.log_likelihood(seconds(watch_s)).item() == pytest.approx(math.log(chance))


def test_a_watch_to_the_end_is_survival_and_the_density_of_replays() -> None:
    """d = 10 s: S(10) = exp(-2); 15 s is half a duration past; after three none is followed."""
    curve = constant_curve(0.1, 2.0, 10.0)
    for watch_s, past, ended in ((10.0, 0.0, 1), (15.0, 0.5, 1), (40.0, 3.0, 0), (1e6, 3.0, 0)):
        expected = -2.0 + ended * math.log(2.0) - 2.0 * past
        assert curve.log_likelihood(seconds(watch_s)).item() == pytest.approx(expected)


def test_a_watch_beyond_the_grid_is_only_known_to_be_long() -> None:
    curve = constant_curve(0.1, 2.0, 1000.0, UNKNOWN)
    expected = -0.1 * (len(GRID_S) - 1)
    for watch_s in (300.0, 999.0):
        found = curve.log_likelihood(seconds(watch_s, watch_s))
        assert found.tolist() == pytest.approx([expected, expected])


def test_an_unknown_watch_says_nothing() -> None:
    curve = random_curve(10.0, UNKNOWN)
    assert curve.log_likelihood(seconds(UNKNOWN, UNKNOWN)).tolist() == [0.0, 0.0]


def cuts_of(durations_s: Tensor, effective_s: Tensor, finished_s: Tensor) -> Cuts:
    return Cuts(
        duration_s=durations_s,
        glance_below_s=3.0,
        glance_needs_duration=True,
        long_from_s=18.0,
        effective_above_s=effective_s,
        finished_above_s=finished_s,
        watch_at_most_s=300.0,
    )


def test_the_cuts_are_those_of_the_labels() -> None:
    """d = 60 s; effective above 12 s and finished above 30 s; long from 18 s; glance below 3 s."""
    curve = random_curve(60.0)
    chance = {
        name: logit.sigmoid().item()
        for name, logit in cut_logits(
            curve, cuts_of(seconds(60.0), seconds(12.0), seconds(30.0))
        ).items()
    }
    assert chance["glance"] == pytest.approx(1 - at(curve, 3.0).item())
    assert chance["effective"] == pytest.approx(at(curve, 12.0).item())
    assert chance["long"] == pytest.approx(at(curve, 18.0).item())
    assert chance["finished"] == pytest.approx(at(curve, 30.0).item())


def test_a_short_clip_is_cut_at_its_end() -> None:
    """d = 2 s: whoever reaches the end has glanced not, and watched long."""
    curve = random_curve(2.0)
    cut = cut_logits(curve, cuts_of(seconds(2.0), seconds(UNKNOWN), seconds(1.0)))
    reached = at(curve, 2.0).item()
    assert cut["glance"].sigmoid().item() == pytest.approx(1 - reached)
    for name in ("long", "effective", "finished"):
        assert cut[name].sigmoid().item() == pytest.approx(reached)


def test_the_cuts_cannot_contradict_each_other() -> None:
    """finished <= effective <= 1 - glance where the thresholds are ordered; long <= 1 - glance."""
    generator = torch.Generator().manual_seed(1)
    number = 500
    durations_s = torch.rand(number, generator=generator, dtype=torch.float64) * 400 + 0.2
    durations_s[::9] = UNKNOWN
    effective_s = torch.rand(number, generator=generator, dtype=torch.float64) * 100
    finished_s = effective_s + torch.rand(number, generator=generator, dtype=torch.float64) * 50
    effective_s[::7], finished_s[::5] = UNKNOWN, 1e4
    outputs = torch.randn(number, NUM_HAZARDS, generator=generator, dtype=torch.float64) * 3
    curve = WatchCurve.from_outputs(outputs, durations_s)
    cut = cut_logits(curve, cuts_of(durations_s, effective_s, finished_s))
    chance = {name: logit.sigmoid() for name, logit in cut.items()}
    both = effective_s.isnan() | finished_s.isnan()
    ordered = (chance["finished"] <= chance["effective"] + 1e-12) | both
    assert ordered.all()
    assert (chance["effective"] <= 1 - chance["glance"] + 1e-12).all()
    assert (chance["long"] <= 1 - chance["glance"] + 1e-12).all()
    assert all(((value > 0) & (value < 1)).all() for value in chance.values())


@pytest.mark.parametrize("size", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("watch", ["nothing", "all", "ten times", "absurd", "unknown"])
@pytest.mark.parametrize("duration_s", [0.05, 5.0, 12.0, 280.0, 900.0, UNKNOWN])
def test_gradients_are_finite_however_extreme(size: float, watch: str, duration_s: float) -> None:
    known_s = 10.0 if math.isnan(duration_s) else duration_s
    watch_s = {
        "nothing": 0.0, "all": known_s, "ten times": 10 * known_s, "absurd": 1e6, "unknown": UNKNOWN
    }[watch]  # fmt: skip
    outputs = torch.full((1, NUM_HAZARDS), size, requires_grad=True)
    durations = torch.tensor([duration_s])
    curve = WatchCurve.from_outputs(outputs, durations)
    cut = cut_logits(curve, cuts_of(durations, torch.tensor([6.0]), torch.tensor([7.0])))
    likelihood = curve.log_likelihood(torch.tensor([watch_s]))
    expected_s = curve.expected_watch_s(300.0)
    total = likelihood.sum() + expected_s.sum() + torch.cat(list(cut.values())).sum()
    assert math.isfinite(total.item())
    assert 0 <= expected_s.item() <= 300.0 * (1 + 1e-6)
    total.backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_the_replay_rate_is_bounded() -> None:
    outputs = torch.full((1, NUM_HAZARDS), 1e4)
    curve = WatchCurve.from_outputs(outputs, torch.tensor([10.0]))
    assert curve.replay_rate_M.item() == REPLAY_RATE_AT_MOST


def test_a_curve_learns_how_long_was_watched() -> None:
    """Maximum likelihood on one length: S(t) approaches the share of watches above t."""
    random = np.random.default_rng(0)
    watch_s = torch.from_numpy(np.minimum(random.exponential(8.0, 800), 30.0))
    outputs = torch.full((1, NUM_HAZARDS), -2.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.3)
    durations_s = torch.full((800,), 30.0, dtype=torch.float64)
    for _ in range(60):
        curve = WatchCurve.from_outputs(outputs.expand(800, -1), durations_s)
        loss = -curve.log_likelihood(watch_s).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for time_s in (1.0, 3.0, 10.0, 25.0):
        share = (watch_s > time_s).double().mean().item()
        learnt = curve.survival(torch.full_like(durations_s, time_s))[0].item()
        assert learnt == pytest.approx(share, abs=0.02)


def test_a_replay_that_outlasts_what_is_followed_is_censored_not_ended() -> None:
    """With true rate 0.2 per duration, the likelihood is largest at 0.2, not at a larger one."""
    generator = torch.Generator().manual_seed(0)
    past = torch.empty(20_000).exponential_(0.2, generator=generator)
    durations_s = torch.full_like(past, 10.0)
    rates = torch.arange(0.05, 0.6, 0.01)
    likelihood = []
    for rate in rates:
        outputs = torch.full((len(past), NUM_HAZARDS), -3.0)
        outputs[:, -1] = torch.log(torch.expm1(rate - 1e-3))
        curve = WatchCurve.from_outputs(outputs, durations_s)
        likelihood.append(float(curve.log_likelihood(10.0 * (1 + past)).mean()))
    assert abs(float(rates[int(np.argmax(likelihood))]) - 0.2) <= 0.02
