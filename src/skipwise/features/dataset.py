"""What a prepared DATASET holds, mapped from disk.

    DATASET folder  ->  Dataset.open  ->  columns that are read where they are touched

- Opening costs no more than the catalogue: event columns and counters stay on disk until rows of
  them are asked for.
- Row order: events by viewer, then sequence; counters as the timed events among them.

Reads the files `prepare` writes (docs/design.md); is read by `stretches`, training and evaluation.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from skipwise.errors import DatasetError
from skipwise.features.soundness import check_sizes, how_to_rebuild
from skipwise.labels.watch import LabelConfig
from skipwise.settings import apply_settings

FORMAT_VERSION = 2

_DESCRIBED: Mapping[str, type] = {
    "fingerprint": str,
    "source": str,
    "time_zone": str,
    "first_day": str,
    "last_day": str,
    "settings": dict,
    "files": dict,
    "objectives": list,
    "labels": dict,
    "counter_names": list,
    "surfaces": list,
    "topics": list,
    "video_extras": list,
    "viewer_extras": list,
    "num_events": int,
    "num_timed_events": int,
    "num_videos": int,
    "num_viewers": int,
}
"""What `dataset.json` must hold, beside its format version."""


class Column:
    """One column of an Arrow file, mapped: rows are copied only when asked for."""

    def __init__(
        self, chunks: Sequence[NDArray[Any]], dtype: np.dtype[Any], width: int = 0
    ) -> None:
        self._chunks = list(chunks)
        self._shape = (width,) if width else ()
        self.dtype = dtype

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Row after each chunk; a column of one chunk, as of a request, is read without."""
        return np.array(list(accumulate(map(len, self._chunks))), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copy some rows out.

        Args:
            rows: (N,) row numbers, each in [0, len(self)).

        Returns:
            (N,) values, or (N, width) for a column of vectors.
        """
        if len(self._chunks) == 1:
            taken: NDArray[Any] = self._chunks[0][rows]
            return taken
        values = np.empty((len(rows), *self._shape), dtype=self.dtype)
        chunk_of = np.searchsorted(self._ends, rows, side="right")
        for chunk in np.flatnonzero(np.bincount(chunk_of)):
            here = chunk_of == chunk
            start = self._ends[chunk] - len(self._chunks[chunk])
            values[here] = self._chunks[chunk][rows[here] - start]
        return values

    def all(self) -> NDArray[Any]:
        """Return the whole column: a view where it lies in one piece, else a copy."""
        if len(self._chunks) == 1:
            return self._chunks[0]
        return (
            np.concatenate(self._chunks)
            if self._chunks
            else np.empty((0, *self._shape), self.dtype)
        )


class Rows(Protocol):
    """Where event rows lie: a dataset, or what a server holds of one viewer and one request."""

    @property
    def events(self) -> Mapping[str, Column]:
        """The columns of `events.arrow` that are read here."""

    @property
    def counters_day(self) -> Column:
        """Nightly counters, (timed rows, K)."""

    @property
    def counters_event(self) -> Column:
        """Counters as of the request, (timed rows, K)."""

    @property
    def counter_names(self) -> tuple[str, ...]:
        """Names of the K counters."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Labels that the rows have."""

    @property
    def session_gap_s(self) -> float:
        """A longer pause starts a new session."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A prepared dataset: one row per event, mapped from disk."""

    path: Path
    description: Mapping[str, Any]
    """`dataset.json`, whole."""
    events: Mapping[str, Column]
    counters_day: Column
    """(timed events, K) counters as of the start of each row's day."""
    counters_event: Column
    """(timed events, K) counters as of each row's request."""
    videos: pa.Table
    viewers: pa.Table
    author_ids: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "Dataset":
        """Map a dataset folder.

        Raises:
            DatasetError: The folder is missing, damaged, or of another format version.
        """
        description = read_description(path)
        check_sizes(path, description)
        events = _map_table(path / "events.arrow")
        expected = description["num_events"]
        if events.num_rows != expected:
            raise DatasetError(
                f"{path}/events.arrow has {events.num_rows} rows, dataset.json says {expected}. "
                "The folder was changed after it was written: run `skipwise prepare` again, with "
                "--replace."
            )
        return cls(
            path=path,
            description=description,
            events={name: _column(events, name) for name in events.column_names},
            counters_day=_column(_map_table(path / "counters_day.arrow"), "counters"),
            counters_event=_column(_map_table(path / "counters_event.arrow"), "counters"),
            videos=_map_table(path / "videos.arrow"),
            viewers=_map_table(path / "viewers.arrow"),
            author_ids=tuple(
                "" if author is None else author
                for author in _map_table(path / "authors.arrow")["author_id"].to_pylist()
            ),
        )

    @property
    def fingerprint(self) -> str:
        """What this dataset's content and settings hash to."""
        return str(self.description["fingerprint"])

    @property
    def counter_names(self) -> tuple[str, ...]:
        """Names of the K counters, in column order."""
        return tuple(self.description["counter_names"])

    @property
    def objectives(self) -> tuple[str, ...]:
        """Labels known for at least one event."""
        return tuple(self.description["objectives"])

    @property
    def label_config(self) -> LabelConfig:
        """What a watch means here."""
        return apply_settings(LabelConfig(), self.description["settings"]["labels"])

    @property
    def session_gap_s(self) -> float:
        """A longer pause between two showings starts a new session."""
        return float(self.description["settings"]["session_gap_s"])

    @property
    def days(self) -> tuple[int, int]:
        """First and last calendar day of the timed events, as days since 1970-01-01."""
        return (
            day_number(self.description["first_day"]),
            day_number(self.description["last_day"]),
        )

    @property
    def num_events(self) -> int:
        """How many events, untimed ones included."""
        return len(self.events["viewer"])

    def viewer_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first event row (V,) and the number of event rows (V,) of each viewer."""
        first = self.viewers["first_row"].to_numpy().astype(np.int64)
        number = self.viewers["num_rows"].to_numpy().astype(np.int64)
        return first, number


def day_number(iso_day: str) -> int:
    """Turn `2022-04-25` into days since 1970-01-01.

    >>> day_number("1970-01-11")
    10
    """
    return int(np.datetime64(iso_day, "D").astype(np.int64))


def iso_day(day: int) -> str:
    """Turn days since 1970-01-01 into `2022-04-25`.

    >>> iso_day(10)
    '1970-01-11'
    """
    return str(np.datetime64(int(day), "D"))


def read_description(path: Path) -> dict[str, Any]:
    """Read `dataset.json`.

    Raises:
        DatasetError: It is missing, damaged or of another format version.
    """
    file = path / "dataset.json"
    if not file.is_file():
        raise DatasetError(
            f"{path} is not a prepared dataset (it has no dataset.json). "
            "Make one with `skipwise prepare LOG --out DATASET`."
        )
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise DatasetError(
            f"{file} is damaged: {problem}; it must be JSON. Run `skipwise prepare` again, "
            "with --replace."
        ) from None
    if not isinstance(description, dict):
        raise DatasetError(
            f"{file} is damaged: it is a {type(description).__name__}, must be a JSON object. "
            "Run `skipwise prepare` again, with --replace."
        )
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {version}, must be {FORMAT_VERSION}. "
            "It was prepared by another version of Skipwise: run `skipwise prepare` again, with "
            "--replace."
        )
    lacking = [
        key for key, kind in _DESCRIBED.items() if not isinstance(description.get(key), kind)
    ]
    if not lacking:
        parts = ("labels", "counters", "session_gap_s")
        lacking = [f"settings.{key}" for key in parts if key not in description["settings"]]
    if lacking:
        raise DatasetError(
            f"{file} is damaged: it must hold {', '.join(lacking)}. Run `skipwise "
            "prepare` again, with --replace."
        )
    return description


def _map_table(file: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowInvalid, OSError) as problem:
        raise DatasetError(
            f"{file} cannot be read: {problem}. It is damaged. "
            f"{how_to_rebuild(file.parent, file.name)}"
        ) from None


def _column(table: pa.Table, name: str) -> Column:
    chunks = table[name].chunks
    kind = table.schema.field(name).type
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        return Column(
            [chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, width) for chunk in chunks],
            dtype,
            width,
        )
    return Column(
        [chunk.to_numpy(zero_copy_only=True) for chunk in chunks], np.dtype(kind.to_pandas_dtype())
    )
