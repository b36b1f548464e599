"""The service's own description: OpenAPI 3.1 from the types of the wire, and a page that shows it.

    ROUTES  ->  document  ->  /openapi.json

- One table of routes makes both the server and the document, so that they cannot differ.
- The page loads nothing from anywhere else.

Reads `wire`; is read by `app`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

import skipwise
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
                "content": {"application/json": {"schema": schema_of[route.body]}},
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


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Skipwise API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h2{margin:2rem 0 .2rem;font-size:1.1rem}code,pre{font:14px ui-monospace,monospace}
pre{background:#f4f4f4;padding:.8rem;overflow:auto}b{color:#0a5}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}pre{background:#222}b{color:#6d9}}
</style>
<h1>Skipwise API</h1><p><a href="/openapi.json">openapi.json</a></p><main></main>
<script>
fetch("/openapi.json").then(r => r.json()).then(api => {
  const main = document.querySelector("main"), schemas = api.components.schemas;
  const add = (tag, text, to = main) => {
    const e = document.createElement(tag); e.textContent = text; to.append(e); return e; };
  const named = s => s && s.$ref ? s.$ref.split("/").pop() : null;
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, op] of Object.entries(methods)) {
      const h = add("h2", ""); add("b", method.toUpperCase() + " ", h); add("code", path, h);
      add("p", op.summary + " " + (op.description || ""));
      const body = op.requestBody && named(op.requestBody.content["application/json"].schema);
      if (body) add("pre", body + " " + JSON.stringify(schemas[body], null, 1));
      const ok = op.responses["200"].content;
      const answer = ok && named(ok["application/json"].schema);
      if (answer) add("pre", "-> " + answer + " " + JSON.stringify(schemas[answer], null, 1));
    }
});
</script></html>
"""
"""The docs page."""
