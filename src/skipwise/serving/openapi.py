"""The service's own description: OpenAPI 3.1 from the types of the wire; `/docs` shows it.

    ROUTES  ->  document  ->  /openapi.json

- One table of routes makes both the server and the document, so that they cannot differ.
- Every body has an example that can be sent as it stands.

Reads `wire` and `examples`; is read by `app`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

import skipwise
from skipwise.serving.examples import EXAMPLES
from skipwise.serving.wire import Problem


class Described(NamedTuple):
    """What one route takes and gives."""

    method: str
    path: str
    summary: str
    scope: str | None
    body: Any
    answer: Any


_REFUSALS = {
    "400": "Not JSON.",
    "401": "No key, or an unknown one.",
    "403": "The key's scopes do not open this.",
    "404": "Nothing of that name.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "422": "A field is not what it must be: which, what it is, what it must be.",
    "429": "Too many requests, or past capacity; see Retry-After.",
    "503": "The state is out of reach; see Retry-After.",
    "507": "The disk is full; nothing was kept.",
}

_PLAIN = str.maketrans({"/": "_", "{": None, "}": None})


def document(routes: Sequence[Described]) -> dict[str, Any]:
    """Return the OpenAPI document of some routes."""
    types = {route.body for route in routes} | {route.answer for route in routes} | {Problem}
    listed = sorted((each for each in types if each is not None), key=lambda each: each.__name__)
    schemas, components = msgspec.json.schema_components(
        listed, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(listed, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation: dict[str, Any] = {
            "summary": route.summary,
            "operationId": f"{route.method.lower()}{route.path}".translate(_PLAIN),
            "responses": {
                "200": _content("Done.", schema_of.get(route.answer)),
                **{
                    status: _content(words, schema_of[Problem])
                    for status, words in _REFUSALS.items()
                },
            },
        }
        if route.body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": schema_of[route.body],
                        "example": msgspec.to_builtins(EXAMPLES[route.body]),
                    }
                },
            }
        if "{" in route.path:
            name = route.path.split("{")[1].split("}")[0]
            operation["parameters"] = [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
                }
            ]
        if route.scope is not None:
            operation["security"] = [{"key": []}]
            operation["description"] = f"Needs a key with the scope `{route.scope}`."
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Skipwise",
            "version": skipwise.__version__,
            "description": "A short-video feed that reacts to the last skip.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _content(words: str, schema: Any) -> dict[str, Any]:
    if schema is None:
        return {"description": words}
    return {"description": words, "content": {"application/json": {"schema": schema}}}
