"""How exposures that servers noted become an exposure log, beside the log of what was served.

    lines `Exposed` of a state's log  ->  ServedExposures.add  ->  FOLDER/exposures.jsonl, growing

- Each viewer once per experiment, in the order in which he was noted, however often the state's log
  is read: so a reader that was killed may read it again from where it knows.
- A line that was cut by a kill is taken out before the next is written; it is read again.

Reads `experiments.exposure` and `serving.world`; is read by `served_log` and `closed`.
"""

from collections.abc import Iterable
from pathlib import Path

from skipwise.experiments.exposure import Exposure, read_exposure_log
from skipwise.serving.state.store import Store
from skipwise.serving.world import Exposed, read_line
from skipwise.storage import append_json_lines


class ServedExposures:
    """An exposure log that is written from a state's log; knows whom it has."""

    def __init__(self, path: Path) -> None:
        """Begin, or go on where the file ends.

        Raises:
            ExperimentError: A line of it is no exposure.
        """
        self.path = path
        if path.is_file():
            _cut_to_whole_lines(path)
        self._known = {_who(each) for each in read_exposure_log(path)} if path.is_file() else set()

    def add(self, lines: Iterable[Exposed]) -> int:
        """Write down who is not there yet; returns how many."""
        new: dict[tuple[str, str, str], Exposure] = {}
        for line in lines:
            exposure = Exposure(line.experiment, line.key, line.viewer_id, line.variant, line.at_ms)
            if _who(exposure) not in self._known:
                new.setdefault(_who(exposure), exposure)
        if new:
            append_json_lines(self.path, new.values())
            self._known.update(new)
        return len(new)

    def pull(self, store: Store, cursor: str) -> str:
        """Write down whom a state's log names after a cursor; returns the cursor of its end.

        Raises:
            StateError: The state is out of reach.
        """
        found = []
        while lines := store.follow(cursor):
            for logged in lines:
                line = read_line(logged.payload) if logged.payload else None
                if isinstance(line, Exposed):
                    found.append(line)
            cursor = lines[-1].cursor
        self.add(found)
        return cursor


def _who(exposure: Exposure) -> tuple[str, str, str]:
    return exposure.experiment, exposure.key, exposure.viewer_id


def _cut_to_whole_lines(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
