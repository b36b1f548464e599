"""How do sections become one HTML file that opens offline?

    title, heading, sections  ->  render_page  ->  HTML; everything from data is escaped

Knows `blocks` and the template; is read by `page` and by the pages of other subjects.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from skipwise.report.blocks import Section


def render_page(title: str, heading: str, sections: Sequence[Section]) -> str:
    """Return a page: no script, nothing fetched from elsewhere."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.jinja")
    return template.render(title=title, heading=heading, sections=sections)
