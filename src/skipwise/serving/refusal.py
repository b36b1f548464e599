"""How a request is refused: which field, what it is, what it must be.

    body, type  ->  decode  ->  a value of the type, or Refusal
    any error   ->  refusal_of  ->  Refusal: a status and a Problem

- An unknown field, of whatever body, is refused with the nearest that there is; so is a word.

Reads `wire`, `settings` and `errors`; is read by `app`.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from skipwise.errors import SkipwiseError, StateError, StorageError
from skipwise.serving.wire import A_DAY, NO_DOTS, Problem
from skipwise.settings import nearest

Body = TypeVar("Body")
_SHOWN = 80
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FORMS = {
    repr(NO_DOTS): "another id than . and ..: a path cannot hold those",
    repr(A_DAY): "a day like 2022-05-01",
}
"""What a form asks for, in words."""
_NAMED = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """An answer that says no."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        field: str | None = None,
        value: str | None = None,
        must_be: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.retry_after_s = status, error, retry_after_s
        self.field, self.value, self.must_be = field, value, must_be

    def problem(self, request_id: str) -> Problem:
        """Return the body of the answer."""
        return Problem(
            request_id=request_id,
            error=self.error,
            field=self.field,
            value=self.value,
            must_be=self.must_be,
        )


def wrong(field: str, value: object, must_be: str, remedy: str) -> Refusal:
    """Refuse one field."""
    shown = _shown(value)
    return Refusal(
        422,
        f"{field} is {shown}, must be {must_be}. {remedy}",
        field=field,
        value=shown,
        must_be=must_be,
    )


def decode(body: bytes, decoder: "msgspec.json.Decoder[Body]") -> Body:
    """Read a body as a type.

    Raises:
        Refusal: It is not JSON (400), or not of the type (422).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise _of_validation(str(problem), _read(body), decoder.type) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise _no_json(problem) from None


def refusal_of(problem: SkipwiseError) -> Refusal:
    """Turn one of our errors into an answer."""
    if isinstance(problem, StorageError):
        return Refusal(507, str(problem))
    if isinstance(problem, StateError):
        return Refusal(503, str(problem), retry_after_s=1.0)
    return Refusal(422, str(problem))


def _no_json(problem: Exception) -> Refusal:
    return Refusal(
        400,
        f"the body is not JSON: {str(problem) or type(problem).__name__}; it must be JSON in "
        "UTF-8, without NaN. Mend it.",
        field="body",
        must_be="JSON in UTF-8",
    )


def _read(body: bytes) -> Any:
    """Read a body that is not of its type as it is, to show what is wrong with it.

    Raises:
        Refusal: It is no JSON either, after the place where its type was found wrong.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.ValidationError, RecursionError):  # a number, or a depth, past all bounds
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise _no_json(problem) from None


def _of_validation(said: str, body: Any, kind: Any) -> Refusal:
    found = _AT.match(said)
    what = found["what"] if found else said
    path = (found["path"] if found else None) or "$"
    named = _NAMED.search(what)
    field, meant = path.removeprefix("$").removeprefix("."), ""
    if named:
        field = f"{field}.{named['name']}" if field else named["name"]
        must_be = "absent: it is no field" if "unknown" in what else "given"
        value = _value_at(body, f"{path}.{named['name']}") if "unknown" in what else "missing"
        if "unknown" in what:
            meant = nearest(named["name"], _fields_at(kind, path))
    else:
        must_be = what.removeprefix("Expected ").removeprefix("Invalid ")
        value = _value_at(body, path)
        for form, words in _FORMS.items():
            must_be = words if form in must_be else must_be
        if must_be.startswith("enum value"):
            choices = _choices_at(kind, path)
            must_be, meant = f"one of {', '.join(choices)}", nearest(value.strip('"'), choices)
        elif must_be == "Number out of range":
            value, must_be = "too large a number", "a number that a float of 64 bits can hold"
        if field.endswith("_at_ms") and value.lstrip("-").isdigit() and abs(int(value)) < 10**11:
            must_be += ": UTC milliseconds since 1970; this looks like seconds"
    return Refusal(
        422,
        f"{field or 'body'} is {value}, must be {must_be}.{meant} See /openapi.json.",
        field=field or "body",
        value=value,
        must_be=must_be,
    )


def _value_at(body: Any, path: str) -> str:
    """Show the value at a path such as `$.events[0].watch_ms`."""
    value = body
    try:
        for name, place in _STEP.findall(path):
            value = value[name] if isinstance(value, Mapping) else value[int(place)]
    except (KeyError, IndexError, TypeError, ValueError):
        return "not what it must be"
    return "not what it must be" if body is None else _shown(value)


def _choices_at(kind: Any, path: str) -> list[str]:
    """Return the words that a type allows at a path."""
    return [str(word) for each in _kinds_at(kind, path) for word in _words(each)]


def _fields_at(kind: Any, path: str) -> list[str]:
    """Return the names of the fields that a type has at a path."""
    return [name for each in _kinds_at(kind, path) for name in _names(each)]


def _kinds_at(kind: Any, path: str) -> list[Any]:
    found: list[Any] = [inspect.type_info(kind)]
    for name, _ in _STEP.findall(path):
        found = [inner for each in found for inner in _inside(each, name)]
    return found


def _inside(kind: Any, name: str) -> list[Any]:
    match kind:
        case inspect.UnionType(types=types):
            return [inner for each in types for inner in _inside(each, name)]
        case inspect.StructType(fields=fields) if name:
            return [field.type for field in fields if field.encode_name == name]
        case inspect.VarTupleType(item_type=item) if not name:
            return [item]
        case _:
            return []


def _names(kind: Any) -> list[str]:
    match kind:
        case inspect.UnionType(types=types):
            return [name for each in types for name in _names(each)]
        case inspect.StructType(fields=fields):
            return [field.encode_name for field in fields]
        case _:
            return []


def _words(kind: Any) -> list[Any]:
    match kind:
        case inspect.UnionType(types=types):
            return [word for each in types for word in _words(each)]
        case inspect.LiteralType(values=values):
            return list(values)
        case _:
            return []


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else f'"{value}"'
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}... ({len(text)} characters)"
