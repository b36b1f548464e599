"""One damaged file of a DATASET, made anew; the others stay as they are.

    the log and settings it came from, DATASET, file name  ->  rebuild

- Everything is computed again aside, and only what was asked for is taken from it: the same log and
  settings give the same files, which the fingerprint proves.

Reads `prepare`; is read by the command line.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from ibis.backends import BaseBackend

from skipwise.errors import DatasetError
from skipwise.events.read import EventLog
from skipwise.features.dataset import read_description
from skipwise.features.prepare import PrepareSettings, prepare
from skipwise.features.soundness import FILES
from skipwise.progress import SILENT, Progress
from skipwise.settings import check_choice
from skipwise.storage import replace_file, write_json


def rebuild(
    log: EventLog,
    connection: BaseBackend,
    out: Path,
    name: str,
    settings: PrepareSettings | None = None,
    progress: Progress = SILENT,
) -> None:
    """Make one file of a DATASET anew, and leave the others as they are.

    Args:
        log: The log it was prepared from.
        connection: The engine.
        out: The DATASET folder.
        name: Which of its files.
        settings: What it was prepared with.
        progress: Who hears how far it is.

    Raises:
        SettingError: No such file.
        DatasetError: There is no dataset, or the log or settings make another one.
        EventError, StorageError: As `prepare`.
    """
    check_choice("--only", name, FILES)
    description = read_description(out)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        made = Path(folder) / "dataset"
        prepare(log, connection, made, settings, progress)
        anew = read_description(made)
        if anew["fingerprint"] != description["fingerprint"]:
            raise DatasetError(
                f"{out} has the fingerprint {description['fingerprint'][:12]}, this log and these "
                f"settings make {anew['fingerprint'][:12]}; {name} must come from the same. Give "
                "both as they were, or prepare the whole dataset again with --replace."
            )
        with replace_file(out / name) as aside:
            shutil.move(made / name, aside)
    files = {**description["files"], name: anew["files"][name]}
    write_json(out / "dataset.json", {**description, "files": files})
