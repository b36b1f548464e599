"""A search must find a planted better weighting, and must not claim one on noise."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from skipwise.errors import DatasetError, SettingError
from skipwise.evaluation.bootstrap import Interval
from skipwise.evaluation.scored import Scored
from skipwise.evaluation.tuning import Found, Slates, Trade, found_to_json, search
from skipwise.model.score import ScoreWeights, load_score_weights, save_score_weights
from skipwise.report.tuning_page import verdict_words, write_tuning_page

TRADE = Trade(trials=40, at=3)


def scored(*, planted: bool, viewers: int = 300, rows: int = 8, seed: int = 0) -> Scored:
    """Slates in which glances are predicted well (planted) or by chance; watch time is noise."""
    rng = np.random.default_rng(seed)
    number = viewers * rows
    p = rng.beta(2.0, 2.0, number)
    glance = rng.random(number) < p
    told = p if planted else rng.permutation(p)
    viewer = np.repeat(np.arange(viewers), rows)
    return Scored(
        viewer=viewer,
        group=viewer,
        visible=np.zeros(number, dtype=np.int64),
        labels={"glance": glance.astype(np.int8), "effective": (~glance).astype(np.int8)},
        probabilities={"glance": told, "effective": rng.random(number)},
        watch_s=np.where(glance, 1.0, 20.0),
        expected_watch_s=rng.exponential(20.0, number),
        duration_s=np.full(number, 60.0),
        slices={},
    )


BLIND = ScoreWeights(glance_power=0.0)
"""Today's weights, which give skips no say."""


@pytest.fixture(scope="module")
def found() -> Found:
    return search(scored(planted=True), BLIND, TRADE)


def test_a_planted_gain_is_found_and_holds_on_other_viewers(found: Found) -> None:
    change = found.judged["glance"]["difference"]
    assert change.high < -0.02
    assert found.judged["watch_s"]["difference"].low > 0
    assert found.choice.weights.glance_power > 0
    assert "Better: " in verdict_words(found, TRADE)


@pytest.mark.parametrize("seed", range(5))
def test_no_gain_is_claimed_on_noise(seed: int) -> None:
    noise = search(scored(planted=False, seed=seed), BLIND, TRADE)
    assert "Better" not in verdict_words(noise, TRADE)


def test_what_is_to_be_kept_binds_the_choice() -> None:
    """Whoever is likely to skip stays long when he stays: fewer skips cost watch time."""
    rows = scored(planted=True)
    p, left = rows.probabilities["glance"], rows.labels["glance"] == 1
    rows = dataclasses.replace(
        rows, watch_s=np.where(left, 1.0, 40 * p), expected_watch_s=p + (1 - p) * 40 * p
    )
    today = dataclasses.replace(BLIND, watch_power=1.0)
    strict = search(rows, today, TRADE)
    loose = search(rows, today, dataclasses.replace(TRADE, give=0.5))
    assert strict.choice.keep >= strict.today.keep
    assert 0.5 * loose.today.keep <= loose.choice.keep < strict.choice.keep
    assert loose.choice.improve < strict.choice.improve - 0.05


def test_a_choice_that_fails_on_other_viewers_is_not_kept(found: Found) -> None:
    worse = {"glance": {"difference": Interval(0.02, 0.01, 0.03)}}
    failed = dataclasses.replace(found, judged={**found.judged, **worse})
    assert verdict_words(failed, TRADE).startswith("Not kept: ")
    unclear = {"glance": {"difference": Interval(-0.02, -0.03, 0.01)}}
    assert verdict_words(
        dataclasses.replace(found, judged={**found.judged, **unclear}), TRADE
    ).startswith("Not sure: ")


@pytest.mark.parametrize(
    ("give", "kept", "said"),
    [
        (0.0, Interval(0.3, 0.01, 0.6), "Better: "),
        (0.0, Interval(-0.8, -2.0, 0.3), "Not sure: "),
        (0.0, Interval(-0.1, -0.15, -0.05), "Not kept: "),
        (0.01, Interval(-0.05, -0.08, -0.02), "Better: "),
        (0.01, Interval(-0.05, -0.11, -0.02), "Not sure: "),
        (0.01, Interval(-0.2, -0.3, -0.09), "Not sure: "),
        (0.01, Interval(-0.2, -0.3, -0.11), "Not kept: "),
    ],
)
def test_what_is_to_be_kept_is_shown_to_be_kept_but_for_what_is_given(
    found: Found, give: float, kept: Interval, said: str
) -> None:
    """By hand: today's watch time is 10 s a view, so .01 gives .1 s."""
    judged = {
        "glance": {"difference": Interval(-0.02, -0.03, -0.01)},
        "watch_s": {"today": Interval(10.0, 9.0, 11.0), "difference": kept},
    }
    for simulated in (False, True):
        words = verdict_words(
            dataclasses.replace(found, judged=judged, simulated=simulated),
            dataclasses.replace(TRADE, give=give),
        ).removeprefix("Simulated viewers. ")
        assert words.startswith(said)
        per = "slate" if simulated else "view"
        by = "by no more than 0.1 s (1 % of today's)" if give else "not at all"
        assert words.endswith(f" Not shown: that watch time per {per} falls {by}.") == (
            said == "Not sure: "
        )
        lost = " by more than the 0.1 s (1 % of today's) that may be given" if give else ""
        assert words.endswith(f" It is shown that watch time per {per} falls{lost}.") == (
            said == "Not kept: "
        )


def test_skips_that_are_to_be_kept_may_not_grow(found: Found) -> None:
    """Fewer is better here, so it is the upper bound that must stay below what is given."""
    trade = dataclasses.replace(TRADE, improve="watch_s", keep="glance", give=0.1)
    for high, said in ((0.04, "Better: "), (0.06, "Not sure: ")):
        judged = {
            "watch_s": {"difference": Interval(2.0, 1.0, 3.0)},
            "glance": {"today": Interval(0.5, 0.4, 0.6), "difference": Interval(0.02, 0.0, high)},
        }
        assert verdict_words(dataclasses.replace(found, judged=judged), trade).startswith(said)


def test_the_front_holds_what_nothing_beats(found: Found) -> None:
    assert found.tried[0].weights == BLIND
    assert len(found.tried) == 1 + TRADE.trials
    for one in found.tried:
        beaten = any(
            other.improve <= one.improve
            and other.keep >= one.keep
            and (other.improve < one.improve or other.keep > one.keep)
            for other in found.tried
        )
        assert one.on_front != beaten
    kept = [one for one in found.tried if one.keep >= found.today.keep]
    assert found.choice.improve == min(one.improve for one in kept)


def test_the_same_seed_finds_the_same(found: Found) -> None:
    again = search(scored(planted=True), BLIND, TRADE)
    assert found_to_json(again, TRADE) == found_to_json(found, TRADE)


def test_a_value_on_the_searched_half_is_the_mean_of_first_places() -> None:
    """By hand: three slates of four rows, the two with the least p(glance) count."""
    small = scored(planted=True, viewers=3, rows=4)
    weights = ScoreWeights(glance_power=1.0, watch_power=0.0, effective=dataclasses.replace(
        ScoreWeights().effective, power=0.0))  # fmt: skip
    slates = Slates(small, Trade(at=2, trials=10), np.ones(12, dtype=bool))
    first = [np.argsort(small.probabilities["glance"][4 * v : 4 * v + 4])[:2] + 4 * v
             for v in range(3)]  # fmt: skip
    expected = np.mean([small.labels["glance"][rows].mean() for rows in first])
    assert slates.value(weights, "glance") == pytest.approx(expected)


def test_the_weights_and_the_page_can_be_used(found: Found, tmp_path: Path) -> None:
    save_score_weights(tmp_path / "weights.json", found.choice.weights)
    assert load_score_weights(tmp_path / "weights.json") == found.choice.weights
    write_tuning_page(tmp_path / "page.html", found, TRADE, "run <1>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "run &lt;1&gt;" in page
    assert "<svg" in page
    assert "today" in page
    json.dumps(found_to_json(found, TRADE), allow_nan=False)


def test_too_few_slates_or_an_unknown_trade_is_refused() -> None:
    with pytest.raises(DatasetError, match="each half needs 30"):
        search(scored(planted=True, viewers=40), BLIND, TRADE)
    with pytest.raises(DatasetError, match="keep = negative, which this run has not learnt"):
        search(scored(planted=True), BLIND, Trade(trials=10, at=3, keep="negative"))
    unknown = scored(planted=True)
    nobody = np.full(len(unknown.viewer), -1, dtype=np.int8)
    unknown = dataclasses.replace(unknown, labels={**unknown.labels, "effective": nobody})
    with pytest.raises(DatasetError, match="0 to judge have more than 3 rows whose effective is"):
        search(unknown, BLIND, Trade(trials=10, at=3, keep="effective"))
    with pytest.raises(SettingError, match="Did you mean 'glance'"):
        Trade(improve="glances")
    with pytest.raises(SettingError, match="must be one of"):
        Trade(improve="glance", keep="glance")
