"""How an id that stands in a path is read.

    request  ->  viewer_id_of  ->  the id, or Refusal: 422

Reads `refusal`; is read by `app`.
"""

from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor
from starlette.requests import Request

from skipwise.serving.refusal import wrong


class Anything(Convertor[str]):
    """The rest of a path, whatever it is: a viewer's id may hold slashes and line ends."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """Take it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Take it as it is."""
        return value


def viewer_id_of(request: Request) -> str:
    """Return the viewer that a path names.

    Raises:
        Refusal: The id is too short or long, or no UTF-8.
    """
    viewer_id = str(request.path_params["viewer_id"])
    if not 1 <= len(viewer_id) <= 128:
        raise wrong("viewer_id", viewer_id, "an id of 1 to 128 characters", "Mend the path.")
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode()
    except UnicodeDecodeError:
        raise wrong("viewer_id", viewer_id, "in UTF-8", "Mend the path.") from None
    return viewer_id
