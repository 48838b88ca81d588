"""Draw the diagrams of a page when the site is built, so that a reader needs no script from elsewhere."""

from html import escape
from typing import Any

import mermaidx


def svg(source: str, *_: Any, **__: Any) -> str:
    """Return a Mermaid diagram as HTML; the format of a fence of pymdownx.superfences."""
    kind = escape(source.split(maxsplit=1)[0])
    return f'<figure class="mermaid-svg" aria-label="{kind}">{mermaidx.render(source).svg()}</figure>'
