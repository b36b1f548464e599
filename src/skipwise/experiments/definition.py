"""What an experiment is: its variants, what is measured, and what stops it.

    EXPERIMENT.toml  ->  read_definition  ->  Definition, checked

- A variant is a model and a score; the shares of all are parts of the viewers, and what they leave
  over is in no experiment.
- What a viewer is assigned depends on name, salt and shares alone: `assignment_key` says which.
- Everything is checked before a viewer is exposed.

Reads `metrics`; is read by the rest of this folder.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from skipwise.errors import ExperimentError, SettingError
from skipwise.experiments.metrics import METRICS
from skipwise.settings import apply_settings, check_choice, check_setting, nearest
from skipwise.settings import read_settings_file as read_toml
from skipwise.storage import json_checksum

PARTS_OF_ALL = 10_000
"""Shares are whole numbers of these."""
STOPPED = "stopped"
"""Under this name viewers of a variant that was stopped are answered; no variant has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One arm: a model and a score."""

    name: str = ""
    share: float = 0.0
    """Of all viewers, in steps of 1 / PARTS_OF_ALL."""
    model: str = ""
    """RUN folder; relative to the definition's folder."""
    score: str = ""
    """File of score weights; empty = the default weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A metric, and the least effect worth finding."""

    name: str = ""
    minimum_effect: float = 0.02
    """Relative to control's mean, either way; what the length of the experiment is planned by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guardrail:
    """A metric that may not become worse by more than so much."""

    name: str = ""
    worse_by_at_most: float = 0.02
    """Relative to control's mean, in the direction that is worse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """Everything that is fixed before an experiment starts."""

    name: str = ""
    salt: str = ""
    """Changes who is assigned what; empty = the name."""
    start: str = ""
    """First calendar day, as 2026-11-25."""
    days: int = 14
    """Planned length; the confidence sequence is narrowest there and valid before and after."""
    control: str = "control"
    alpha: float = 0.05
    power: float = 0.8
    covariate_days: int = 14
    """Days before the start whose sums reduce variance (CUPED); 0 = none."""
    correction: Literal["fwer", "fdr", "none"] = "fwer"
    """Over metrics and treatments: Hochberg (any false alarm), Benjamini-Hochberg, or nothing."""
    minimum_viewers: int = 100
    """Exposed viewers of each variant below which nothing is said."""
    variants: tuple[Variant, ...] = ()
    metrics: tuple[Goal, ...] = ()
    """The first is the one the experiment is about."""
    guardrails: tuple[Guardrail, ...] = ()
    folder: Path = field(default=Path(), metadata={"set_in_files": False})
    """Where the file lies."""

    @property
    def start_day(self) -> int:
        """First calendar day, days since 1970-01-01."""
        return (dt.date.fromisoformat(self.start) - dt.date(1970, 1, 1)).days

    @property
    def treatments(self) -> tuple[str, ...]:
        """Names of the variants that are compared with control."""
        return tuple(variant.name for variant in self.variants if variant.name != self.control)

    @property
    def assignment_key(self) -> str:
        """What assignment depends on, in 16 letters."""
        shares = [[variant.name, variant.share] for variant in self.variants]
        return json_checksum([self.name, self.salt, shares])[:16]

    def check_unchanged(self, key: str, where: str) -> None:
        """Refuse what was written down under another `assignment_key`.

        Raises:
            ExperimentError: It was.
        """
        if key != self.assignment_key:
            raise ExperimentError(
                f"{where} was written under other shares or another salt than {self.name!r} has "
                "now; they must stay as they were while an experiment runs. Put them back, or "
                "start anew under another name."
            )

    def __post_init__(self) -> None:
        check_setting("days", self.days, at_least=1, at_most=365)
        check_setting("alpha", self.alpha, above=0, below=0.5)
        check_setting("power", self.power, above=0, below=1)
        check_setting("covariate_days", self.covariate_days, at_least=0, at_most=365)
        check_setting("minimum_viewers", self.minimum_viewers, at_least=2)


def read_definition(path: Path) -> Definition:
    """Read and check an experiment's definition.

    Raises:
        ExperimentError: Something in it cannot be; the message says what it must be.
        SettingError: The file cannot be read, or a key or a number in it is wrong.
    """
    try:
        values = read_toml(path)
    except SettingError as problem:
        raise SettingError(str(problem).replace("--config needs", "an experiment is")) from None
    lists = {
        "variants": _each(values, "variants", Variant()),
        "metrics": _each(values, "metrics", Goal()),
        "guardrails": _each(values, "guardrails", Guardrail()),
    }
    if "folder" in values:
        raise ExperimentError(
            f"{path} names a folder, which is always the one it lies in; paths in it are relative "
            "to that. Take the line out."
        )
    plain = {key: value for key, value in values.items() if key not in lists}
    if isinstance(plain.get("start"), dt.date):
        plain["start"] = plain["start"].isoformat()
    start = apply_settings(Definition(), plain)
    given = {each.name: getattr(start, each.name) for each in fields(start)}
    definition = Definition(**given | lists | {"folder": path.parent})
    check_definition(definition)
    return definition


def check_definition(definition: Definition) -> None:
    """Refuse what could not be run or analysed.

    Raises:
        ExperimentError: See the messages.
    """
    if not definition.name:
        raise ExperimentError('The experiment has no name; it must have one. Add name = "...".')
    try:
        dt.date.fromisoformat(definition.start)
    except ValueError:
        raise ExperimentError(
            f"start = {definition.start!r} is not a day; it must read like 2026-11-25. Mend it."
        ) from None
    _check_variants(definition)
    _check_shares(definition.variants)
    _check_metrics(definition)


def _check_variants(definition: Definition) -> None:
    names = [variant.name for variant in definition.variants]
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise ExperimentError(
            f"variants are named {names}; an experiment needs at least two, with names of their "
            "own. Write a [[variants]] part for each."
        )
    if definition.control not in names:
        raise ExperimentError(
            f"control = {definition.control!r} is none of the variants {', '.join(names)}."
            f"{nearest(definition.control, names)} Name one of them as control."
        )
    if STOPPED in names:
        raise ExperimentError(
            f"a variant is named {STOPPED!r}, which says that one was stopped; it must have "
            "another name. Rename it."
        )
    for variant in definition.variants:
        if not variant.model:
            raise ExperimentError(
                f"variant {variant.name!r} has no model; it must name a RUN folder. Add "
                'model = "...".'
            )


def _check_shares(variants: Sequence[Variant]) -> None:
    for variant in variants:
        parts = variant.share * PARTS_OF_ALL
        if not 0 < variant.share <= 1 or abs(parts - round(parts)) > 1e-6:
            raise ExperimentError(
                f"variant {variant.name!r} has share = {variant.share:g}, which no viewer can "
                f"reach; it must be a whole number of {PARTS_OF_ALL:,}ths, above 0 and at most 1. "
                "Change the share, or take the variant out."
            )
    total = sum(round(variant.share * PARTS_OF_ALL) for variant in variants)
    if total > PARTS_OF_ALL:
        raise ExperimentError(
            f"shares add up to {total / PARTS_OF_ALL:g}, so variants overlap; they must add up to "
            "at most 1. Lower one."
        )


def _check_metrics(definition: Definition) -> None:
    goals = [goal.name for goal in definition.metrics]
    if not goals:
        raise ExperimentError(
            "The experiment measures nothing; it must have a metric. Write a [[metrics]] part "
            f"with one of {', '.join(METRICS)}."
        )
    for name in (*goals, *(guardrail.name for guardrail in definition.guardrails)):
        try:
            check_choice("metric", name, METRICS)
        except SettingError as problem:
            raise ExperimentError(str(problem)) from None
    if len(set(goals)) < len(goals):
        raise ExperimentError(f"metrics name {goals}; each may stand there once. Take one out.")
    for goal in definition.metrics:
        check_setting(f"{goal.name}.minimum_effect", goal.minimum_effect, above=0, at_most=10)
    for rail in definition.guardrails:
        check_setting(
            f"{rail.name}.worse_by_at_most", rail.worse_by_at_most, at_least=0, at_most=10
        )


def _each(values: Mapping[str, Any], key: str, start: Any) -> tuple[Any, ...]:
    written = values.get(key, [])
    if not isinstance(written, list):
        raise ExperimentError(
            f"{key} is a {type(written).__name__}, must be a list of parts. Write [[{key}]]."
        )
    return tuple(
        apply_settings(start, part, prefix=f"{key}[{place}].") for place, part in enumerate(written)
    )
