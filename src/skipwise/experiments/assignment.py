"""Which variant is a viewer in?

    Definition, viewer ids (N,)  ->  assign  ->  variant names, None where in no variant

- The same answer for ever, on any machine: a salted hash, no table.
- Another experiment's salt gives an independent answer, so experiments may overlap.

Reads `definition`; is read by `exposure`, `panel` and whoever serves an experiment.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from skipwise.experiments.definition import PARTS_OF_ALL, Definition


def assign(definition: Definition, viewer_ids: Iterable[str]) -> list[str | None]:
    """Assign viewers to variants.

    BLAKE2b-64 of salt, experiment and viewer, modulo PARTS_OF_ALL, falls in one of the intervals
    that the shares cut off one after the other.

    Returns:
        One name per viewer; None for those that no share reaches.
    """
    names: list[str | None] = [*(variant.name for variant in definition.variants), None]
    ends = np.cumsum([round(variant.share * PARTS_OF_ALL) for variant in definition.variants])
    key = f"{definition.salt or definition.name}\0{definition.name}\0".encode()
    parts = [_part(key, viewer_id) for viewer_id in viewer_ids]
    places = np.searchsorted(ends, np.array(parts, dtype=np.int64), side="right")
    return [names[place] for place in places.tolist()]


def _part(key: bytes, viewer_id: str) -> int:
    digest = hashlib.blake2b(key + viewer_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % PARTS_OF_ALL
