"""What a person would see of a video: its words, its author, its length.

    Slate, LiveCatalogue  ->  described  ->  the slate, each item with `shown`

Reads `catalogue` and `wire`; is read by the engine, `explain` and `facts`.
"""

import math

import msgspec

from skipwise.serving.catalogue import LiveCatalogue
from skipwise.serving.wire import Shown, Slate


def described(slate: Slate, catalogue: LiveCatalogue) -> Slate:
    """Say of each video of a slate what a person would see of it."""
    return msgspec.structs.replace(
        slate,
        items=tuple(
            msgspec.structs.replace(item, shown=shown(catalogue, catalogue.code(item.video_id)))
            for item in slate.items
        ),
    )


def shown(catalogue: LiveCatalogue, code: int) -> Shown:
    """Say what a person would see of a video."""
    seconds = float(catalogue.duration_s[code])
    title, author_name = catalogue.words.get(code, (None, None))
    return Shown(
        topics=tuple(catalogue.topic_words[topic] for topic in catalogue.topic_codes(code)),
        author_id=catalogue.author_ids[catalogue.author[code]] or None,
        duration_ms=None if math.isnan(seconds) else round(seconds * 1000),
        title=title,
        author_name=author_name,
    )
