"""The ranking score: by hand, what moves it which way, and its file."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skipwise.errors import SettingError
from skipwise.model.score import (
    Reward,
    ScoreWeights,
    fused_score,
    load_score_weights,
    save_score_weights,
)
from skipwise.settings import apply_settings, parse_overrides, settings_to_dict

GLANCE_ONLY = ScoreWeights(
    effective=Reward(power=0), long=Reward(power=0), finished=Reward(power=0), watch_power=0
)


def test_the_score_is_the_product_of_its_factors() -> None:
    weights = ScoreWeights(
        watch_offset_s=1.0,
        watch_power=0.5,
        glance_power=2.0,
        negative_power=3.0,
        effective=Reward(scale=4.0, power=1.5),
        like=Reward(scale=10.0, power=1.0),
    )
    chances = {"glance": 0.3, "negative": 0.01, "effective": 0.6, "like": 0.02}
    found = fused_score(
        {name: np.array([chance]) for name, chance in chances.items()}, np.array([8.0]), weights
    )
    expected = (1 + 8) ** 0.5 * (1 + 4 * 0.6) ** 1.5 * (1 + 10 * 0.02) * 0.7**2 * 0.99**3
    assert found == pytest.approx([expected])


@pytest.mark.parametrize("name", ["glance", "negative"])
def test_bad_outcomes_lower_the_score(name: str) -> None:
    found = fused_score({name: np.array([0.0, 0.2, 1.0])}, None, ScoreWeights())
    assert (np.diff(found) < 0).all()
    assert found[-1] == 0.0


@pytest.mark.parametrize("name", ["effective", "long", "finished", "like", "follow", "share"])
def test_good_outcomes_raise_the_score(name: str) -> None:
    found = fused_score({name: np.array([0.0, 0.2, 1.0])}, None, ScoreWeights())
    assert (np.diff(found) > 0).all()


def test_more_watching_raises_the_score_less_and_less() -> None:
    found = fused_score({}, np.array([0.0, 10.0, 20.0]), ScoreWeights())
    assert found[0] < found[1] < found[2]
    assert found[1] - found[0] > found[2] - found[1]


def test_without_power_an_objective_has_no_say() -> None:
    """Even a skip that is certain, or an objective no weight knows."""
    silent = ScoreWeights(glance_power=0.0)
    watch_s = np.array([5.0, 5.0])
    found = fused_score(
        {"glance": np.array([0.0, 1.0]), "complete": np.array([0.0, 1.0])}, watch_s, silent
    )
    assert found[0] == found[1] > 0
    heard = fused_score({"glance": np.array([0.0, 1.0])}, watch_s, ScoreWeights())
    assert heard[0] > heard[1]


def test_a_score_without_a_say_is_refused() -> None:
    silent = dataclasses.replace(GLANCE_ONLY, glance_power=0.0)
    with pytest.raises(SettingError, match="give no power to any of glance, long"):
        fused_score({"long": np.ones(1), "glance": np.ones(1)}, np.ones(1), silent)


def test_weights_are_saved_and_read_whole(tmp_path: Path) -> None:
    weights = ScoreWeights(glance_power=3.0, like=Reward(scale=7.0, power=2.0))
    save_score_weights(tmp_path / "score.json", weights)
    assert load_score_weights(tmp_path / "score.json") == weights
    assert json.loads((tmp_path / "score.json").read_text())["glance_power"] == 3.0


def test_a_toml_file_changes_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "score.toml"
    file.write_text("glance_power = 3\n[like]\nscale = 7.0\n")
    found = load_score_weights(file)
    assert found.glance_power == 3.0
    assert found.like == dataclasses.replace(ScoreWeights().like, scale=7.0)
    assert found.share == ScoreWeights().share


def test_overrides_reach_a_reward() -> None:
    found = apply_settings(ScoreWeights(), parse_overrides(["like.power=0.5"]))
    assert found.rewards["like"].power == 0.5


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("score.json", '{"glance_powr": 1}', "glance_powr is not a setting.*'glance_power'"),
        ("score.json", '{"glance_power": -1}', "glance_power = -1, must be >= 0"),
        ("score.json", '{"like": {"scale": "much"}}', "like.scale = 'much' is of type str"),
        ("score.json", "[1]", "holds a list, must be an object"),
        ("score.json", "{", "cannot be read as JSON"),
        ("score.toml", "watch_offset_s = 0", "watch_offset_s = 0, must be > 0"),
    ],
)
def test_wrong_weights_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=said) as refused:
        load_score_weights(tmp_path / name)
    assert name in str(refused.value)


@pytest.mark.parametrize("name", ["score.json", "score.toml"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match=f"{name} does not exist; score weights"):
        load_score_weights(tmp_path / name)


def test_weights_are_written_as_json_only(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"score.toml must end in .json"):
        save_score_weights(tmp_path / "score.toml", ScoreWeights())
    assert not list(tmp_path.iterdir())


def test_the_file_in_the_documents_is_read_and_every_key_is_told() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "model.md").read_text()
    text = text[text.index("\n## Score") :]
    wanted = ScoreWeights(glance_power=2.0, like=Reward(scale=8.0, power=1.5))
    (toml,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert apply_settings(ScoreWeights(), tomllib.loads(toml)) == wanted
    (as_json,) = re.findall(r"As JSON: `(.*?)`", text)
    assert apply_settings(ScoreWeights(), json.loads(as_json)) == wanted
    told: dict[str, Any] = {}
    for names, default in re.findall(r"^\| (`.*?`) \| (.*?) \|", text, flags=re.MULTILINE):
        reward = re.fullmatch(r"scale (\S+), power (\S+)", default)
        for name in re.findall("`(.*?)`", names):
            told[name] = (
                {"scale": float(reward[1]), "power": float(reward[2])} if reward else float(default)
            )
    assert told == settings_to_dict(ScoreWeights())
