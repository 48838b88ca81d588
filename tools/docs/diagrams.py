"""Draw the diagrams of a page when the site is built, so that a reader needs no script from elsewhere."""

import re
from html import escape
from typing import Any

import mermaidx

# the theme makes a figure as wide as its content asks for, and a drawing asks for nothing
FIGURE = "width: 100%; display: block; overflow-x: auto; background: white"
SMALLEST = 0.7  # of a drawing's own size: smaller words cannot be read, so a wide one scrolls
WIDTH = re.compile(r'viewBox="\S+ \S+ (\S+) ')


def svg(source: str, *_: Any, **__: Any) -> str:
    """Return a Mermaid diagram as HTML; the format of a fence of pymdownx.superfences."""
    kind = escape(source.split(maxsplit=1)[0])
    drawing = mermaidx.render(source).svg()
    width = float(WIDTH.findall(drawing)[0])
    drawing = drawing.replace('style="', f'style="min-width: {width * SMALLEST:.0f}px; ', 1)
    return f'<figure class="mermaid-svg" style="{FIGURE}" aria-label="{kind}">{drawing}</figure>'
