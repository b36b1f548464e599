"""How a setting gets its value, and who says no.

    preset dataclass -> TOML file -> key=value overrides -> checked, frozen dataclass

- A setting lives in a frozen dataclass beside the code that reads it; dataclasses nest.
- An unknown key is refused with the nearest right one; a value of the wrong type with the type.
- What is refused is named as the user writes it, however deep its dataclass lies.
- Nothing is evaluated: values are TOML values.

Knows nobody; is read by every layer.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from skipwise.errors import SettingError

Settings = TypeVar("Settings")


def check_setting(
    name: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Refuse a number outside its range.

    Raises:
        SettingError: A bound is broken, or the value is NaN.

    >>> check_setting("dropout", 1.5, at_least=0, below=1)
    Traceback (most recent call last):
        ...
    skipwise.errors.SettingError: dropout = 1.5, must be >= 0 and < 1. Change dropout.
    """
    bounds = {
        ">": (above, above is None or value > above),
        ">=": (at_least, at_least is None or value >= at_least),
        "<": (below, below is None or value < below),
        "<=": (at_most, at_most is None or value <= at_most),
    }
    if all(holds for _, holds in bounds.values()) and not math.isnan(value):
        return
    wanted = " and ".join(
        f"{sign} {bound:g}" for sign, (bound, _) in bounds.items() if bound is not None
    )
    raise SettingError(f"{name} = {value:g}, must be {wanted}. Change {name}.", name=name)


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a word that is not among the choices, naming the nearest.

    Raises:
        SettingError: `value` is not one of `choices`.
    """
    choices = list(choices)
    if value not in choices:
        raise SettingError(
            f"{name} = {value!r}, must be one of {', '.join(choices)}."
            f"{nearest(value, choices)} Change {name}.",
            name=name,
        )


@contextlib.contextmanager
def named_within(prefix: str, fields: Collection[str]) -> Iterator[None]:
    """Let refusals name a group's settings as the user writes them.

    Args:
        prefix: Where the group lies, as `serving.slate.`; empty at the top.
        fields: The group's own; a refusal of anything else is passed on as it is.

    Raises:
        SettingError: As it was raised inside, by the full name.

    >>> with named_within("serving.slate.", ["k"]):
    ...     check_setting("slate.k", 0, at_least=1)
    Traceback (most recent call last):
        ...
    skipwise.errors.SettingError: serving.slate.k = 0, must be >= 1. Change serving.slate.k.
    """
    try:
        yield
    except SettingError as problem:
        name = problem.name or ""
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        own = name if first in fields else last
        if own.partition(".")[0] not in fields:
            raise
        full = prefix + own
        alone = rf"(?<![\w.]){re.escape(name)}(?![\w]|\.\w)"
        told = re.sub(alone, lambda _: full, str(problem))
        raise SettingError(told, name=full) from None


def nearest(word: str, choices: Iterable[str]) -> str:
    """Say which choice was probably meant: ` Did you mean 'x'?`, or nothing.

    >>> nearest("learning_rat", ["learning_rate", "seed"])
    " Did you mean 'learning_rate'?"
    """
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a TOML file into nested dicts.

    Raises:
        SettingError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(
            f"{path} does not exist; --config needs a TOML file. Check the path."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise SettingError(f"{path} cannot be read as TOML: {problem}. Mend that line.") from None


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn `a.b=1` words into nested dicts; a value that is not TOML is taken as text.

    Raises:
        SettingError: A word has no `=`.

    >>> parse_overrides(["encoder.blocks=2", "relation=curve"])
    {'encoder': {'blocks': 2}, 'relation': 'curve'}
    """
    nested: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise SettingError(
                f"{assignment!r} is not an override; it must read key=value, as in seed=3."
            )
        *parents, leaf = key.strip().split(".")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise SettingError(
                    f"{key} is set both as a value and as a group. Keep one of them."
                )
        level[leaf] = _toml_value(text.strip())
    return nested


def apply_settings(start: Settings, changes: Mapping[str, Any], *, prefix: str = "") -> Settings:
    """Copy a settings dataclass with some values changed, checking every key and type.

    Args:
        start: The dataclass instance to start from.
        changes: Nested values, as from `read_settings_file` or `parse_overrides`.
        prefix: Where this dataclass sits, for messages.

    A field with `metadata={"set_in_files": False}` is no setting: its owner fills it in.

    Raises:
        SettingError: Unknown key, wrong type, or a value its owner refuses.
    """
    fields = _fields_of(start)
    hints = typing.get_type_hints(type(start))
    values: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in fields:
            raise SettingError(
                f"{name} is not a setting; {prefix.rstrip('.') or 'this level'} has "
                f"{', '.join(fields)}.{_meant(start, key, value, prefix)} Name one of these."
            )
        current = getattr(start, key)
        if dataclasses.is_dataclass(current) and not isinstance(current, type):
            if not isinstance(value, Mapping):
                raise SettingError(
                    f"{name} is a group of settings, not one value. Write {name}.KEY=VALUE."
                )
            values[key] = apply_settings(current, value, prefix=f"{name}.")
        else:
            values[key] = _as_type(name, value, hints[key])
    with named_within(prefix, fields):
        return dataclasses.replace(start, **values)  # type: ignore[type-var]


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Turn a settings dataclass into nested plain values that JSON can hold."""
    return dataclasses.asdict(settings)


def _fields_of(settings: Any) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(settings)
        if field.metadata.get("set_in_files", True)
    ]


def _meant(start: Any, key: str, value: Any, prefix: str) -> str:
    """Say which key was probably meant: of this level, or of a group by its last part."""
    words = [key]
    while isinstance(value, Mapping) and value:
        word, value = next(iter(value.items()))
        words.append(str(word))
    known = {name: name.rpartition(".")[2] for name in _keys_of(start)}
    same = [name for name, last in known.items() if last == words[-1]]
    if same and (len(same) == 1 or len(words) > 1):
        group = ".".join(words[:-1])
        close = max(same, key=lambda name: difflib.SequenceMatcher(None, name, group).ratio())
        return f" Did you mean {prefix + close!r}?"
    at_this_level = nearest(key, _fields_of(start))
    if at_this_level:
        return at_this_level
    near = difflib.get_close_matches(words[-1], known.values(), n=1, cutoff=0.8)
    found = [name for name, last in known.items() if [last] == near]
    return f" Did you mean {prefix + found[0]!r}?" if found else ""


def _keys_of(settings: Any) -> Iterator[str]:
    """Name every setting, those of groups as group.key."""
    for name in _fields_of(settings):
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            yield from (f"{name}.{key}" for key in _keys_of(value))
        else:
            yield name


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _as_type(name: str, value: Any, hint: Any) -> Any:
    """Fit a TOML value to a type: bool, int, float, str, tuple[X, ...], X | None, Literal."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (value == "none" and type(None) in arguments):
            return None
        return _as_type(name, value, next(kind for kind in arguments if kind is not type(None)))
    if origin is typing.Literal:
        check_choice(name, value, arguments)
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(
            _as_type(f"{name}[{place}]", item, arguments[0]) for place, item in enumerate(value)
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool or not isinstance(value, bool))
    ):
        return value
    wanted = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise SettingError(
        f"{name} = {value!r} is of type {type(value).__name__}, must be {wanted}. Change {name}."
    )
