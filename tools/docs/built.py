"""What a built site must have: its documents, and every page in a search that needs no server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.docs.api_documents import FOLDER, RENDERED

INDEX: Final = Path("search", "search_index.js")  # a script, since a page opened as a file cannot fetch
SHIM: Final = "assets/javascripts/iframe-worker.js"  # runs the search in pages that are opened as files
DOCUMENTS: Final = (RENDERED, f"{FOLDER}/openapi.json", f"{FOLDER}/asyncapi.json")
TERMS: Final = ("dead letter", "ANTIPHON_NATS_URL", "createSession", "antiphon_ingest_lag_seconds")
SCRIPT: Final = re.compile(r"<script src=\"?([^\" >]+)")


def missing(site: Path) -> Iterator[str]:
    """Yield what a built site lacks."""
    yield from (f"{name} is not there" for name in (*DOCUMENTS, SHIM) if not (site / name).is_file())
    if not (site / INDEX).is_file():
        yield f"{INDEX} is not there: no search without a server"
        return
    entries = json.loads((site / INDEX).read_text().removeprefix("var __index = ").rstrip(";\n"))["docs"]
    found = {entry["location"].partition("#")[0] or "index.html" for entry in entries}
    text = "\n".join(f"{entry['title']} {entry['text']}" for entry in entries).lower()
    yield from (f"the search does not find “{term}”" for term in TERMS if term.lower() not in text)
    for page in sorted(site.rglob("*.html")):
        name = str(page.relative_to(site))
        if name == RENDERED or name.startswith(("404", "source/")):  # not for the search
            continue
        if name not in found:
            yield f"the search does not know {name}"
        scripts = SCRIPT.findall(page.read_text())
        if not any((page.parent / script).resolve() == (site / SHIM).resolve() for script in scripts):
            yield f"{name} cannot search when it is opened as a file"
