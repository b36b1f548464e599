"""`make bench-loop` goes on with worlds of its own code and size, and with no others."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmarks import loop, quality_runs


def test_a_kept_world_is_taken_up_but_never_by_the_short_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_anew(seed: int) -> dict[str, Any]:
        return {"world": seed, "run": "anew"}

    (tmp_path / "world-3.json").write_text('{"world": 3, "run": "before"}')
    monkeypatch.setattr(loop, "KEPT", tmp_path)
    monkeypatch.setattr(loop, "run_world", run_anew)
    for short, seed, run in ((False, 3, "before"), (False, 4, "anew"), (True, 3, "anew")):
        monkeypatch.setattr(loop, "SHORT", short)
        assert loop.world_card(seed)["run"] == run


def test_other_code_or_another_size_keeps_its_worlds_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop.kept_folder(loop.SIZE, loop.CODE) == loop.KEPT
    assert loop.kept_folder((loop.SHORT, 7, loop.DAYS, loop.PAST_DAYS), loop.CODE) != loop.KEPT
    copy = tmp_path / "skipwise"
    shutil.copytree(quality_runs.SOURCE, copy, ignore=shutil.ignore_patterns("page", "*.pyc"))
    monkeypatch.setattr(quality_runs, "SOURCE", copy)
    assert quality_runs.code_fingerprint(["."]) == loop.CODE[0]
    with (copy / "loop" / "days.py").open("a") as file:
        file.write("# changed")
    assert quality_runs.code_fingerprint(["."]) != loop.CODE[0]
