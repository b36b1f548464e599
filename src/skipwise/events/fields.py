"""What a mapping file may say of one field.

    `watch = { column = "seen", unit = "s" }`  ->  read_field  ->  Column, or a constant

- What a field may be stands in three tables here: one row per field.

Knows `layout`; is read by `mapping`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipwise.errors import EventError
from skipwise.events.layout import Column, Constant, Form
from skipwise.events.schema import FLAGS
from skipwise.settings import nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a mapping file."""

    canonical: str
    """The column of the canonical table."""

    forms: Mapping[str, Form]
    """What `option` may be -> the form; one entry under "" where there is no choice."""

    option: str = ""
    """The key that chooses the form: `unit` or `time`."""

    needed: bool = False
    """Whether a mapping must have it."""


_UNITS: Mapping[str, Form] = {"ms": "ms", "s": "s"}
_TIMES: Mapping[str, Form] = {"epoch_ms": "epoch_ms", "epoch_s": "epoch_s", "iso": "iso"}
_DAYS: Mapping[str, Form] = {"iso": "day_iso", "yyyymmdd": "day_yyyymmdd"}
_CONSTANTS: Mapping[Form, tuple[type, ...]] = {
    "text": (str,),
    "flag": (bool,),
    "policy": (str,),
    "number": (float, int),
}


def _plain(canonical: str, form: Form = "text", *, needed: bool = False) -> Field:
    return Field(canonical=canonical, forms={"": form}, needed=needed)


_DURATION = Field(canonical="duration_ms", forms=_UNITS, option="unit")

EVENT_FIELDS: Mapping[str, Field] = {
    "viewer_id": _plain("viewer_id", needed=True),
    "video_id": _plain("video_id", needed=True),
    "shown_at": Field(canonical="shown_at_ms", forms=_TIMES, option="time", needed=True),
    "watch": Field(canonical="watch_ms", forms=_UNITS, option="unit", needed=True),
    "day": Field(canonical="day", forms=_DAYS, option="time"),
    "duration": _DURATION,
    "surface": _plain("surface"),
    "request_id": _plain("request_id"),
    "position": _plain("position", "whole"),
    **{flag: _plain(flag, "flag") for flag in FLAGS},
    "policy": _plain("policy", "policy"),
    "propensity": _plain("propensity", "number"),
    "variant": _plain("variant"),
}
"""What `[events]` may hold beside its file."""

VIDEO_FIELDS: Mapping[str, Field] = {
    "video_id": _plain("video_id", needed=True),
    "author_id": _plain("author_id"),
    "topics": _plain("topics", "list"),
    "duration": _DURATION,
    "uploaded_at": Field(canonical="uploaded_at_ms", forms=_TIMES, option="time"),
}
"""What `[videos]` may hold beside its file and extras."""

VIEWER_FIELDS: Mapping[str, Field] = {"viewer_id": _plain("viewer_id", needed=True)}
"""What `[viewers]` may hold beside its file and extras."""


def read_field(entry: object, field: Field, where: str, mapping: Path) -> Column | Constant:
    """Read what stands after the `=` of a field.

    Args:
        entry: A column name, or a table of options.
        field: What the field may be.
        where: Its name, for messages: `events.watch`.
        mapping: The mapping file, for messages.

    Raises:
        EventError: The entry is neither, an option is unknown, or one is missing.
    """
    options = {"column": entry} if isinstance(entry, str) else group_of(entry, where, mapping)
    form = field.forms.get("", "text")
    allowed = ["column", *([field.option] if field.option else [])]
    allowed += ["separator"] if form == "list" else []
    allowed += ["constant"] if _may_be_constant(field) else []
    check_keys(options, allowed, f"{where}.", mapping)
    if "constant" in options:
        return _constant(options, form, where, mapping)
    if "column" not in options:
        raise EventError(
            f'{where} in {mapping} names no column; it must, as column = "NAME". Add it.'
        )
    return Column(
        written=text_of(options["column"], f"{where}.column", mapping),
        form=_chosen(options, field, where, mapping) if field.option else form,
        separator=text_of(options.get("separator", ","), f"{where}.separator", mapping),
    )


def check_keys(
    written: Mapping[str, Any], known: Iterable[str], prefix: str, mapping: Path
) -> None:
    """Refuse a key that means nothing.

    Raises:
        EventError: A key is not among `known`; the nearest of them is offered.
    """
    known = list(known)
    for key in written:
        if key not in known:
            raise EventError(
                f"{prefix}{key} in {mapping} is not a key of a mapping; it must be one of "
                f"{', '.join(known)}.{nearest(key, known)}"
            )


def group_of(entry: object, where: str, mapping: Path) -> Mapping[str, Any]:
    """Take an entry as a group of keys.

    Raises:
        EventError: It is something else.
    """
    if not isinstance(entry, Mapping):
        raise EventError(
            f"{where} in {mapping} is {entry!r}, must be a group of keys. "
            f"Write it as in docs/data.md."
        )
    return entry


def text_of(entry: object, where: str, mapping: Path) -> str:
    """Take an entry as a text.

    Raises:
        EventError: It is something else, or empty.
    """
    if not isinstance(entry, str) or not entry:
        raise EventError(f"{where} in {mapping} is {entry!r}, must be a text. Put it in quotes.")
    return entry


def truth_of(entry: object, where: str, file: Path) -> bool:
    """Take an entry as true or false.

    Raises:
        EventError: It is something else.
    """
    if not isinstance(entry, bool):
        raise EventError(
            f"{where} in {file} is {entry!r}, must be true or false. Write one of them, unquoted."
        )
    return entry


def _may_be_constant(field: Field) -> bool:
    return not field.needed and field.forms.get("", "list") in _CONSTANTS


def _chosen(options: Mapping[str, Any], field: Field, where: str, mapping: Path) -> Form:
    choices = ", ".join(f'"{choice}"' for choice in field.forms)
    example = f'{{ column = "{options["column"]}", {field.option} = "{next(iter(field.forms))}" }}'
    if field.option not in options:
        raise EventError(
            f"{where} in {mapping} does not say its {field.option}; it must be one of {choices}. "
            f"Write it as {example}."
        )
    chosen = options[field.option]
    if chosen not in field.forms:
        raise EventError(
            f"{where}.{field.option} = {chosen!r} in {mapping}, must be one of {choices}."
            f"{nearest(str(chosen), field.forms)}"
        )
    return field.forms[chosen]


def _constant(options: Mapping[str, Any], form: Form, where: str, mapping: Path) -> Constant:
    value = options["constant"]
    kinds = _CONSTANTS[form]
    wanted = " or ".join(kind.__name__ for kind in kinds)
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if form == "policy":
        fits, wanted = value in ("served", "random"), "'served' or 'random'"
    if form == "number" and fits:
        fits, wanted = 0 < value <= 1, "above 0 and at most 1"
    if not fits or len(options) > 1:
        raise EventError(
            f"{where} in {mapping} is {dict(options)!r}, must hold nothing but a constant that is "
            f"{wanted}. Mend it."
        )
    constant: Constant = value
    return constant
