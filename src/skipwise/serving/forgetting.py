"""What is done when a viewer is to be forgotten: nothing that names them stays where it can be had.

    Engine, a viewer's id  ->  forget  ->  whether anything was held, and lines that were erased

- Gone: the packed past; in every process what it remembers of them; and what the log says of them
  (views, late outcomes, exposures), which it would otherwise keep for `serving.state.log_days`.
- Stays: sums over everybody, in which no viewer can be told; the line that tells other processes
  whom to forget, as long as the log; digests of event ids, so that an event sent again is none,
  and of whom an experiment has met: forgotten, they are out of it.
- What a viewer sends after that line is theirs anew: the past and the line change together, and
  only lines before it are erased.
- Counts of a line that was erased before another process had read it, or before a snapshot was
  written, are in one process and not in another, or not after a restart: a viewer's newest views.

Reads `engine`, `state` and `world`; is read by `app`.
"""

from skipwise.serving.engine import Engine
from skipwise.serving.state.store import START, Store
from skipwise.serving.world import Amended, Exposed, Line, Viewed, ViewerForgotten, read_line


def forget(engine: Engine, viewer_id: str) -> bool:
    """Forget a viewer's past, here and in every process; returns whether anything was held.

    Raises:
        StateError: The state is out of reach.
    """
    held = engine.forget(viewer_id)
    engine.catch_up()
    return held


def erase(store: Store, viewer_id: str) -> int:
    """Erase what the log says of a viewer before the newest line that says they are forgotten.

    Reads all of the log.

    Returns:
        How many lines it was; none for who was not forgotten.

    Raises:
        StateError: The state is out of reach.
        StorageError: The disk is full.
    """
    named, cursor, until = viewer_id.encode(), START, store.end()
    before: list[str] = []
    since: list[str] = []
    while cursor != until and (lines := store.follow(cursor)):
        for logged in lines:
            cursor = logged.cursor
            if named in logged.payload:
                line = read_line(logged.payload)
                if line == ViewerForgotten(viewer_id):
                    before, since = before + since, []
                elif viewer_of(line) == viewer_id:
                    since.append(cursor)
            if cursor == until:
                break
    if before:
        store.erase(before)
    return len(before)


def viewer_of(line: Line) -> str | None:
    """Return whom a line is about; None for nobody's, and for the word that one was forgotten."""
    match line:
        case Viewed(event=event):
            return event.viewer_id
        case Amended(outcome=outcome):
            return outcome.viewer_id
        case Exposed(viewer_id=viewer_id):
            return viewer_id
        case _:
            return None
