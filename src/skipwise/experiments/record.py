"""How an analysis is kept, so that a page can be made of it without the log.

    Analysis, Definition  ->  write_record  ->  analysis.json  ->  read_record  ->  Record

Reads `analysis` and `definition`; is read by the command line.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import skipwise
from skipwise.errors import ExperimentError
from skipwise.experiments.analysis import Analysis, Plan, SegmentEffect, Stopped
from skipwise.experiments.definition import Definition, Goal, Guardrail, Variant
from skipwise.experiments.effects import Effect
from skipwise.experiments.verdict import judge
from skipwise.storage import write_json

FORMAT = 2
"""2: intervals for every look are at the level of their comparisons, which is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What `analysis.json` holds."""

    analysis: Analysis
    definition: Definition
    simulated: bool


def write_record(
    path: Path, analysis: Analysis, definition: Definition, *, simulated: bool
) -> None:
    """Write an analysis, its definition and its verdicts as JSON.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    definition = dataclasses.replace(definition, folder=Path())
    write_json(
        path,
        {
            "format": FORMAT,
            "skipwise": skipwise.__version__,
            "simulated": simulated,
            "verdicts": [dataclasses.asdict(each) for each in judge(analysis, definition)],
            "definition": {**dataclasses.asdict(definition), "folder": ""},
            "analysis": dataclasses.asdict(analysis),
        },
    )


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote.

    Raises:
        ExperimentError: It is missing or not an analysis of this version.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ValueError(f"format {held['format']}")
        return Record(
            analysis=_analysis(held["analysis"]),
            definition=_definition(held["definition"]),
            simulated=bool(held["simulated"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ExperimentError(
            f"{path} cannot be read as an analysis ({problem}); it must be what `skipwise "
            "experiment analyse` writes. Analyse again."
        ) from None


def _analysis(held: Mapping[str, Any]) -> Analysis:
    return Analysis(
        days=held["days"],
        viewers=held["viewers"],
        ratio_p_value=held["ratio_p_value"],
        effects=[_effect(each) for each in held["effects"]],
        looks=[_effect(each) for each in held["looks"]],
        plans=[Plan(**each) for each in held["plans"]],
        segments={
            treatment: [
                SegmentEffect(**{**part, "effect": part["effect"] and _effect(part["effect"])})
                for part in parts
            ]
            for treatment, parts in held["segments"].items()
        },
        heterogeneity_p_value={
            name: math.nan if p is None else p for name, p in held["heterogeneity_p_value"].items()
        },
        stopped={name: Stopped(**each) for name, each in held.get("stopped", {}).items()},
    )


def _effect(held: Mapping[str, Any]) -> Effect:
    known: dict[str, Any] = {
        name: math.nan if value is None else value for name, value in held.items()
    }
    return Effect(**known)


def _definition(held: Mapping[str, Any]) -> Definition:
    lists = {
        "variants": tuple(Variant(**each) for each in held["variants"]),
        "metrics": tuple(Goal(**each) for each in held["metrics"]),
        "guardrails": tuple(Guardrail(**each) for each in held["guardrails"]),
    }
    return Definition(**{**held, **lists, "folder": Path()})
