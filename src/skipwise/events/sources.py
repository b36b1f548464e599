"""Which source a path is.

    path, source name or mapping file  ->  find_layout  ->  Layout

- A source is recognised by the files in its folder; nothing is guessed from their content.
- Adding a source takes one file that makes a Layout, and one line here.

Knows every source; is read by `read`.
"""

from pathlib import Path

from skipwise.errors import EventError
from skipwise.events.canonical import EVENTS_FILE, canonical_layout, is_canonical
from skipwise.events.kuairand import is_kuairand, kuairand_layout
from skipwise.events.layout import Layout
from skipwise.events.mapping import mapping_layout
from skipwise.settings import check_choice

SOURCES = ("kuairand", "skipwise", "mapping")
"""What `find_layout` knows."""


def find_layout(path: Path, *, source: str | None, mapping: Path | None) -> Layout:
    """Say where a source keeps everything.

    Args:
        path: Folder, or a file when there is a mapping.
        source: One of `SOURCES`, or None to recognise it.
        mapping: A mapping file, or None.

    Raises:
        EventError: The path is missing, is no source that is known, or not the source named.
        SettingError: `source` is not one of `SOURCES`.
    """
    if source is not None:
        check_choice("source", source, SOURCES)
    if not path.exists():
        raise EventError(
            f"{path} does not exist; it must be the folder (or, with --mapping, the file) of a "
            "log. Check the path."
        )
    if mapping is not None:
        if source not in (None, "mapping"):
            raise EventError(
                f"source {source!r} is given together with the mapping file {mapping}; it must be "
                "one of the two. Leave out --source."
            )
        return mapping_layout(path, mapping)
    if source == "mapping":
        raise EventError(
            "source 'mapping' is given without a mapping file; it must say where each column is. "
            "Give one with --mapping FILE."
        )
    return _recognised(path, source)


def _recognised(path: Path, source: str | None) -> Layout:
    if source in (None, "skipwise") and is_canonical(path):
        return canonical_layout(path)
    if source in (None, "kuairand") and is_kuairand(path):
        return kuairand_layout(path)
    looked_for = {
        "kuairand": f"log_*.csv in {path / 'data'} and in {path} (KuaiRand)",
        "skipwise": f"{EVENTS_FILE} in {path} (Skipwise's own tables)",
    }
    wanted = looked_for.values() if source is None else [looked_for[source]]
    if path.is_file():
        raise EventError(
            f"{path} is a file, and nothing says what its columns are; a log in one file must come "
            "with a mapping (docs/data.md shows one). Write it and give it with --mapping FILE."
        )
    kind = "no source that is known" if source is None else f"not a {source} folder"
    raise EventError(
        f"{path} is a folder and {kind}; it must be a folder with {' or '.join(wanted)}. "
        "Check the path, or describe the log with --mapping FILE."
    )
