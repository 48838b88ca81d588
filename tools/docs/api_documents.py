"""The documents of the interfaces on the site: OpenAPI and AsyncAPI to download, and OpenAPI rendered."""

import json
from importlib.resources import files
from typing import Final

from tools.docs.event_catalogue import ASYNCAPI

from antiphon.session_api.reference import openapi_document

FOLDER: Final = "reference"
RENDERED: Final = f"{FOLDER}/openapi.html"
SCRIPT: Final = "assets/javascripts/redoc.js"
# Redoc shows its logo from elsewhere
LOGO: Final = "https://cdn.redoc.ly/redoc/logo-mini.svg"
NO_LOGO: Final = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"
OPTIONS: Final = {
    "downloadUrls": [{"title": "OpenAPI", "url": "openapi.json"}],
    "nativeScrollbars": True,
    "requiredPropsFirst": True,
    "sideNavStyle": "path-only",
}
# links to these documents, after the title of a page: they are files of the site only
LINKS: Final = {
    f"{FOLDER}/http-api.md": "All of it, with each schema, example and error: [rendered](openapi.html), or "
    "the [OpenAPI document](openapi.json) to download.",
    f"{FOLDER}/events.md": "The [AsyncAPI document](asyncapi.json) to download.",
}

PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HTTP API - Antiphon</title>
</head>
<body style="margin: 0">
<p style="margin: 0; padding: .6em 1.2em; font-family: sans-serif">
<a href="http-api.html">Antiphon: the HTTP API</a>
</p>
<div id="api"></div>
<script src="../%(script)s"></script>
<script>
Redoc.init(%(document)s, %(options)s, document.getElementById("api"))
</script>
</body>
</html>
"""


def documents() -> dict[str, str]:
    """Return the files by their place in the site. Raises ValueError if Redoc has no logo to replace."""
    openapi = json.dumps(openapi_document(), ensure_ascii=False)
    redoc = (files("fastapi_offline") / "static" / "redoc.standalone.js").read_text()
    if LOGO not in redoc:
        raise ValueError("Redoc shows its logo from another place: look what it loads")
    rendered = PAGE % {
        "script": SCRIPT,
        "document": openapi.replace("</", "<\\/"),  # a script ends at the first one
        "options": json.dumps(OPTIONS),
    }
    return {
        f"{FOLDER}/openapi.json": openapi,
        f"{FOLDER}/asyncapi.json": ASYNCAPI.read_text(),
        RENDERED: rendered,
        SCRIPT: redoc.replace(LOGO, NO_LOGO),
    }


def with_links(uri: str, markdown: str) -> str:
    """Return a page with the links to its documents after the title."""
    if uri not in LINKS:
        return markdown
    title, found, rest = markdown.partition("\n\n")
    return f"{title}{found}{LINKS[uri]}\n\n{rest}"
