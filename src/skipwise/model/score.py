"""What is the one number a slate is ordered by?

    probabilities {objective: (N,)}, expected_watch_s (N,), ScoreWeights  ->  fused_score  ->  (N,)

- Weights are data: a small file beside the model, changed without training.
- An objective that is not predicted, or whose power is 0, has no say.
- The score is >= 0 and only its order counts.

Reads `settings` and `storage`; is read by evaluation and serving. No torch.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.settings import (
    apply_settings,
    check_setting,
    read_settings_file,
    settings_to_dict,
)
from skipwise.storage import write_json

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """What the chance of one good outcome does to the score: `(1 + scale * p) ** power`."""

    scale: float = 1.0
    """How much p = 1 adds, before the power; raise it for outcomes that are rare."""
    power: float = 1.0
    """0 = no say."""

    def __post_init__(self) -> None:
        check_setting("scale", self.scale, at_least=0, at_most=1e6)
        check_setting("power", self.power, at_least=0, at_most=100)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreWeights:
    """How the predictions of one video become its score. Defaults are ours, to be tuned."""

    watch_offset_s: float = 1.0
    """Seconds added to the expected watch time, so that 0 s does not erase all else."""
    watch_power: float = 0.5
    """Of the expected watch time; under 1, so that long videos do not win by length alone."""
    glance_power: float = 1.0
    """Of `1 - p(glance)`; 0 = skips have no say."""
    negative_power: float = 20.0
    """Of `1 - p(negative)`; large, for explicit negatives are rare and costly."""
    effective: Reward = Reward()
    long: Reward = Reward()
    finished: Reward = Reward(power=0.5)
    click: Reward = Reward(power=0.0)
    like: Reward = Reward(scale=5.0)
    follow: Reward = Reward(scale=10.0)
    comment: Reward = Reward(scale=10.0)
    share: Reward = Reward(scale=10.0)

    def __post_init__(self) -> None:
        check_setting("watch_offset_s", self.watch_offset_s, above=0, at_most=300)
        check_setting("watch_power", self.watch_power, at_least=0, at_most=100)
        check_setting("glance_power", self.glance_power, at_least=0, at_most=100)
        check_setting("negative_power", self.negative_power, at_least=0, at_most=10_000)

    @property
    def rewards(self) -> dict[str, Reward]:
        """The reward of each good outcome, by objective."""
        return {name: getattr(self, name) for name in _REWARDED}


_REWARDED = tuple(each.name for each in fields(ScoreWeights) if isinstance(each.default, Reward))


def orders(weights: ScoreWeights, objectives: Iterable[str]) -> bool:
    """Return whether a model of such objectives, and of watch time, can order anything by weights.

    Objectives without a say need not be there: only what is predicted counts.

    >>> orders(ScoreWeights(), ["glance"])
    True
    >>> orders(ScoreWeights(watch_power=0.0), ["glance"])
    True
    >>> orders(ScoreWeights(watch_power=0.0), [])
    False
    """
    try:
        fused_score({name: np.zeros(1) for name in objectives}, np.zeros(1), weights)
    except SettingError:
        return False
    return True


def fused_score(
    probabilities: Mapping[str, Floats],
    expected_watch_s: Floats | None,
    weights: ScoreWeights,
) -> Floats:
    """Fuse the predictions of candidates into one score each.

        score = (offset + E[w])^watch_power * prod_k (1 + scale_k p_k)^power_k
                * (1 - p_glance)^glance_power * (1 - p_negative)^negative_power

    A product of powers as used for short-video ranking, the two last factors being what skips and
    explicit negatives take away.

    Args:
        probabilities: Objective -> (N,) in [0, 1].
        expected_watch_s: (N,) seconds, >= 0; None where watch time is not predicted.
        weights: What counts how much.

    Returns:
        (N,) scores, >= 0.

    Raises:
        SettingError: Nothing that is predicted has a say.

    >>> weights = ScoreWeights(glance_power=2.0)
    >>> fused_score({"glance": np.array([0.0, 0.5])}, None, weights).tolist()
    [1.0, 0.25]
    """
    factors = [
        (1.0 + reward.scale * probabilities[name]) ** reward.power
        for name, reward in weights.rewards.items()
        if name in probabilities and reward.power > 0
    ]
    for name, power in (("glance", weights.glance_power), ("negative", weights.negative_power)):
        if name in probabilities and power > 0:
            factors.append((1.0 - probabilities[name]) ** power)
    if expected_watch_s is not None and weights.watch_power > 0:
        factors.append((weights.watch_offset_s + expected_watch_s) ** weights.watch_power)
    if not factors:
        raise SettingError(
            f"The score weights give no power to any of {', '.join(sorted(probabilities))}; at "
            "least one prediction must have a say. Raise one of the powers."
        )
    return functools.reduce(np.multiply, factors)


def load_score_weights(path: Path) -> ScoreWeights:
    """Read score weights from a TOML or JSON file; what it leaves out keeps its default.

    Raises:
        SettingError: The file is missing, cannot be read, or holds an unknown key or wrong value.
    """
    try:
        return apply_settings(ScoreWeights(), _values_in(path))
    except SettingError as problem:
        told = str(problem)
        raise SettingError(told if str(path) in told else f"{path}: {told}") from None


def save_score_weights(path: Path, weights: ScoreWeights) -> None:
    """Write score weights as JSON, whole or not at all.

    Raises:
        SettingError: The file's name does not end in `.json`.
        StorageError: The disk is full or the folder cannot be written.
    """
    if path.suffix != ".json":
        raise SettingError(
            f"{path.name} must end in .json, the form score weights are written in. Rename it."
        )
    write_json(path, settings_to_dict(weights))


def _values_in(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingError(
            f"{path} does not exist; score weights are a TOML or JSON file. Check the path."
        )
    if path.suffix != ".json":
        return read_settings_file(path)
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as problem:
        raise SettingError(f"{path} cannot be read as JSON: {problem}. Mend that line.") from None
    if not isinstance(values, dict):
        raise SettingError(
            f"{path} holds a {type(values).__name__}, must be an object of weights. "
            'Write {"glance_power": 1.0}.'
        )
    return values
