"""The page's files over HTTP: `/` the feed, `/lab` the lab, `/docs` the API, `/page/...` the rest.

    page/*  ->  read once  ->  routes

- Nothing is loaded from anywhere else, and no script or style stands in the HTML: the policy in the
  headers holds the browser to it.
- A browser asks each time whether a file has changed; what has not is not sent again.

Reads the files beside it; is read by `app`.
"""

import hashlib
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
_KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PATHS = {"index.html": "/", "lab.html": "/lab", "docs.html": "/docs"}


class File(NamedTuple):
    """A file as it is sent."""

    path: str
    content: bytes
    headers: dict[str, str]


def page_routes() -> list[Route]:
    """Return a route for each file of the page."""
    folder = files("skipwise.serving") / "page"
    return [_route(_file(each.name, each.read_bytes())) for each in folder.iterdir()]


def _file(name: str, content: bytes) -> File:
    headers = {
        "content-type": _KINDS[name.rpartition(".")[2]],
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
        "etag": f'"{hashlib.sha256(content).hexdigest()[:20]}"',
    }
    return File(_PATHS.get(name, f"/page/{name}"), content, headers)


def _route(file: File) -> Route:
    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == file.headers["etag"]:
            return Response(status_code=304, headers=file.headers)
        return Response(file.content, headers=file.headers)

    return Route(file.path, answer, methods=["GET"])
