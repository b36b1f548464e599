import dataclasses
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pytest

from skipwise.errors import ExperimentError
from skipwise.experiments.assignment import assign
from skipwise.experiments.definition import Variant
from skipwise.experiments.exposure import ExposureLog, read_exposures
from tests.experiments.planted import DEFINITION

VIEWERS = [f"u{number}" for number in range(40)]
MOVED = dataclasses.replace(
    DEFINITION,
    variants=(
        Variant(name="control", share=0.3, model="a"),
        Variant(name="treatment", share=0.7, model="b"),
    ),
)


def events(variants: list[str | None], at_ms: int = 10) -> ir.Table:
    """One event of each viewer on the first day."""
    return ibis.memtable(
        {
            "viewer_id": VIEWERS[: len(variants)],
            "variant": variants,
            "shown_at_ms": [at_ms] * len(variants),
            "day": [DEFINITION.start_day] * len(variants),
        },
        schema={"viewer_id": "string", "variant": "string", "shown_at_ms": "int64", "day": "int32"},
    )


def test_the_first_exposure_counts_and_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "exposures.jsonl"
    log = ExposureLog(path, DEFINITION)
    log.add(VIEWERS, 1000)
    assert log.add(VIEWERS, 2000) == {}
    assert ExposureLog(path, DEFINITION).add(VIEWERS, 3000) == {}  # another process
    read = read_exposures(DEFINITION, path, events([]))
    assert read.viewer_id == VIEWERS
    assert read.variant == assign(DEFINITION, VIEWERS)
    assert set(read.since_ms.tolist()) == {1000}


def test_who_is_in_no_variant_is_not_exposed(tmp_path: Path) -> None:
    half = dataclasses.replace(
        DEFINITION, variants=tuple(dataclasses.replace(v, share=0.2) for v in DEFINITION.variants)
    )
    fresh = ExposureLog(tmp_path / "e.jsonl", half).add(VIEWERS, 1)
    expected = [v for v, name in zip(VIEWERS, assign(half, VIEWERS), strict=True) if name]
    assert 0 < len(fresh) < len(VIEWERS)
    assert list(fresh) == expected


def test_another_experiment_in_the_same_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    ExposureLog(path, dataclasses.replace(MOVED, name="other")).add(VIEWERS, 1)
    ExposureLog(path, DEFINITION).add(VIEWERS[:20], 2)
    assert read_exposures(DEFINITION, path, events([])).viewer_id == VIEWERS[:20]


def test_changed_shares_are_refused_in_both_kinds_of_log(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    ExposureLog(path, DEFINITION).add(VIEWERS, 1)
    with pytest.raises(ExperimentError, match="start anew under another name"):
        read_exposures(MOVED, path, events([]))
    with pytest.raises(ExperimentError, match="were in another variant"):
        read_exposures(MOVED, None, events(assign(DEFINITION, VIEWERS)))
    assert read_exposures(DEFINITION, None, events(assign(DEFINITION, VIEWERS))).variant


def test_a_missing_exposure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no viewer exposed to control, treatment"):
        read_exposures(DEFINITION, None, events([None] * 5))
    own = [name if name == "control" else None for name in assign(DEFINITION, VIEWERS)]
    with pytest.raises(ExperimentError, match="no viewer exposed to treatment"):
        read_exposures(DEFINITION, None, events(own))
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_exposures(DEFINITION, tmp_path / "absent.jsonl", events([]))


def test_a_viewer_of_two_variants_is_refused() -> None:
    table = ibis.union(events(["control"]), events(["treatment"], at_ms=20))
    with pytest.raises(ExperimentError, match="1 of 1 viewers were served by more than one"):
        read_exposures(DEFINITION, None, table)


def test_a_cut_line_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    ExposureLog(path, DEFINITION).add(VIEWERS[:2], 1)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(ExperimentError, match=r"e\.jsonl:2 is .*, must be a list"):
        ExposureLog(path, DEFINITION)
