"""What are things called on the page?

    names of data, labels, slices, baselines  ->  words for people

- A name from the data is shown as it is, but for control characters and great length.

Reads `labels`; is read by the sections.
"""

import unicodedata
from collections.abc import Mapping

from skipwise.labels.watch import FLAG_OF, LabelConfig


def plain(name: object, at_most: int = 60) -> str:
    r"""Make a name from the data fit to be drawn.

    >>> plain("feed\x00", at_most=10)
    'feed�'
    """
    text = "".join("\N{REPLACEMENT CHARACTER}" if _is_odd(char) else char for char in str(name))
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def label_meanings(config: LabelConfig) -> Mapping[str, str]:
    """Say what makes each label positive.

    >>> label_meanings(LabelConfig(glance_needs_duration=False))["glance"]
    'watched less than 3 s, or than the whole video if shorter; of unknown length: no glance'
    """
    glance = f"watched less than {config.glance_below_s:g} s, or than the whole video if shorter"
    if not config.glance_needs_duration:
        glance += "; of unknown length: no glance"
    earlier = "watched longer than {:g}\N{NO-BREAK SPACE}% of earlier views by others"
    return {
        "glance": glance,
        "effective": earlier.format(100 * config.effective_quantile),
        "long": f"watched {config.long_from_s:g} s or more, or the whole video if shorter",
        "finished": earlier.format(100 * config.finished_quantile),
        "complete": "watched to the end",
        "negative": "disliked, asked for less, or reported",
        **{name: f"the viewer {flag}" for name, flag in FLAG_OF.items() if name != "negative"},
    }


def part_name(division: str, part: str, config: LabelConfig) -> str:
    """Name a part of a slice.

    >>> part_name("duration_bucket", "2", LabelConfig())
    'length 12 to 18 s'
    """
    if division != "duration_bucket" or not part.isdecimal():
        return f"{division}: {plain(part)}"
    bucket, edges = int(part), config.duration_edges_s
    if not 0 < bucket <= len(edges) + 1:
        return "length unknown"
    if bucket == 1:
        return f"length under {edges[0]:g} s"
    if bucket > len(edges):
        return f"length {edges[-1]:g} s and more"
    return f"length {edges[bucket - 2]:g} to {edges[bucket - 1]:g} s"


def baseline_name(name: str) -> str:
    """Name a baseline."""
    known = {
        "video_rate": "rate of the video",
        "viewer_surface_rate": "rate of the viewer on the surface",
        "random": "random",
        "lightgbm": "LightGBM on the counters",
    }
    return known.get(name, plain(name.replace("_", " ")))


def _is_odd(char: str) -> bool:
    bidirectional = "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    return bidirectional or unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn")
