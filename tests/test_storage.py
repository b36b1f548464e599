"""What is on disk is whole, or the old one, or nothing."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from skipwise.errors import SettingError, StorageError
from skipwise.storage import (
    check_replaceable,
    checksum,
    replace_file,
    replace_folder,
    write_json,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_appears_with_its_folders(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "file.txt"
    with replace_file(place) as aside:
        aside.write_text("new")
        assert not place.exists()
    assert place.read_text() == "new"
    assert names_in(place.parent) == ["file.txt"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_file_broken_off_leaves_the_old_one(tmp_path: Path, stop: type[BaseException]) -> None:
    place = tmp_path / "file.txt"
    place.write_text("old")

    def write() -> None:
        with replace_file(place) as aside:
            aside.write_text("half")
            raise stop

    with pytest.raises(stop):
        write()
    assert place.read_text() == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_a_full_disk_leaves_the_old_file_and_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "file.txt"
    place.write_text("old")
    monkeypatch.setattr(os, "fsync", no_space)
    with (
        pytest.raises(StorageError, match=r"file\.txt could not .*disk is full.*Free some space"),
        replace_file(place) as aside,
    ):
        aside.write_text("new")
    assert place.read_text() == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "one"
    with replace_folder(place) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "file.txt").write_text("new")
        assert not place.exists()
    assert (place / "deep" / "file.txt").read_text() == "new"
    assert names_in(place.parent) == ["one"]
    assert place.stat().st_mode & 0o777 == 0o755


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "one"
    place.mkdir()
    (place / "old.txt").write_text("old")
    with replace_folder(place) as aside:
        (aside / "new.txt").write_text("new")
        assert names_in(place) == ["old.txt"]
    assert names_in(place) == ["new.txt"]
    assert names_in(tmp_path) == ["one"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_a_folder_broken_off_leaves_the_old_one(tmp_path: Path, stop: type[BaseException]) -> None:
    place = tmp_path / "one"
    place.mkdir()
    (place / "old.txt").write_text("old")

    def write() -> None:
        with replace_folder(place) as aside:
            (aside / "new.txt").write_text("half")
            raise stop

    with pytest.raises(stop):
        write()
    assert names_in(place) == ["old.txt"]
    assert names_in(tmp_path) == ["one"]


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "one"
    place.mkdir()
    (place / "old.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="disk is full"), replace_folder(place) as aside:
        (aside / "new.txt").write_text("new")
    assert names_in(place) == ["old.txt"]
    assert names_in(tmp_path) == ["one"]


def test_a_folder_that_cannot_take_its_place_gives_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "one"
    place.mkdir()
    (place / "old.txt").write_text("old")
    rename = Path.replace

    def broken(self: Path, target: Path) -> Path:
        if self.name.endswith(".part") and target == place:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(KeyboardInterrupt), replace_folder(place) as aside:
        (aside / "new.txt").write_text("new")
    assert names_in(place) == ["old.txt"]
    assert names_in(tmp_path) == ["one"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_may_not_be_written_is_said_plainly(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(StorageError, match=r"may not be written.*Choose a folder of your own"),
        replace_file(tmp_path / "file.txt"),
    ):
        raise OSError(code, os.strerror(code))


def test_any_other_failure_keeps_its_own_name(tmp_path: Path) -> None:
    with (
        pytest.raises(BrokenPipeError),
        replace_file(tmp_path / "file.txt"),
    ):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_file_that_cannot_be_there_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not be written: .*Choose another place"):
        write_json(tmp_path / "file" / "value.json", 1)
    with pytest.raises(StorageError, match=r"is a directory.*Choose another place"):
        write_json(tmp_path, 1)


def test_json_comes_back_with_nan_as_null(tmp_path: Path) -> None:
    value = {"a": [1.5, math.nan, math.inf], "b": {"c": (1, -math.inf)}, "d": "ü"}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [1.5, None, None], "b": {"c": [1, None]}, "d": "ü"}
    assert text.endswith("\n")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "value.json"
    write_json(place, {"a": 1})
    with pytest.raises(TypeError):
        write_json(place, {"a": object()})
    assert json.loads(place.read_text()) == {"a": 1}
    assert names_in(tmp_path) == ["value.json"]


def test_the_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert checksum(tmp_path / "empty") == empty
    (tmp_path / "other").write_bytes(b"x")
    assert checksum(tmp_path / "other") != empty


def test_only_an_empty_folder_or_one_of_our_own_may_be_replaced(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new", "mark", "ours")
    check_replaceable(tmp_path, "mark", "ours")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingError, match=r"is not ours; the output must be .* Choose another"):
        check_replaceable(tmp_path, "mark", "ours")
    with pytest.raises(SettingError, match="is not ours"):
        check_replaceable(tmp_path / "thesis.txt", "mark", "ours")
    (tmp_path / "mark").touch()
    check_replaceable(tmp_path, "mark", "ours")
