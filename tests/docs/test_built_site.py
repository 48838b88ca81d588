"""What a built site must have is missed when it is not there; its documents are those of the interfaces."""

import json
from pathlib import Path

import pytest
from tools.docs import api_documents, built
from tools.docs.site import LOADS

PAGE = '<html><script src="{}assets/javascripts/iframe-worker.js"></script></html>'


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return api_documents.documents()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A whole site of two pages."""
    entries = [
        {"location": "", "title": "Antiphon", "text": " ".join(built.TERMS)},
        {"location": "how-to/upgrade.html#steps", "title": "Steps", "text": "first"},
    ]
    content = {
        "index.html": PAGE.format(""),
        "how-to/upgrade.html": PAGE.format("../"),
        "source/flows.html": "shown",
        str(built.INDEX): f"var __index = {json.dumps({'docs': entries})}",
        built.SHIM: "shim",
        **dict.fromkeys(built.DOCUMENTS, "document"),
    }
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_whole_site_lacks_nothing(site: Path) -> None:
    assert list(built.missing(site)) == []


@pytest.mark.parametrize(
    ("name", "text", "lacks"),
    [
        (str(built.INDEX), None, "search/search_index.js is not there: no search without a server"),
        (str(built.INDEX), 'var __index = {"docs": []}', "the search does not find “dead letter”"),
        ("how-to/lost.html", PAGE.format("../"), "the search does not know how-to/lost.html"),
        ("index.html", "<html></html>", "index.html cannot search when it is opened as a file"),
        (
            "how-to/upgrade.html",
            PAGE.format(""),
            "how-to/upgrade.html cannot search when it is opened as a file",
        ),
        ("reference/openapi.json", None, "reference/openapi.json is not there"),
    ],
)
def test_what_is_missing_is_named(site: Path, name: str, text: str | None, lacks: str) -> None:
    (site / name).unlink() if text is None else (site / name).write_text(text)

    assert lacks in list(built.missing(site))


def test_the_rendered_api_holds_its_document_and_loads_nothing_from_elsewhere(
    documents: dict[str, str],
) -> None:
    rendered, script = documents[api_documents.RENDERED], documents[api_documents.SCRIPT]
    given = json.JSONDecoder().raw_decode(rendered.partition("Redoc.init(")[2])[0]

    assert given == json.loads(documents["reference/openapi.json"])
    assert len(given["paths"]) > 20
    assert LOADS.search(rendered) is None
    assert rendered.count("</script>") == 2  # no text of the document ends the script
    assert api_documents.LOGO not in script
    assert "cdn." not in script


def test_asyncapi_is_the_committed_document(documents: dict[str, str]) -> None:
    assert json.loads(documents["reference/asyncapi.json"])["asyncapi"] == "3.0.0"


def test_pages_lead_to_the_documents() -> None:
    page = api_documents.with_links("reference/http-api.md", "# The API\n\nText.\n")

    assert page.startswith("# The API\n\nAll of it")
    assert page.endswith("to download.\n\nText.\n")
    assert api_documents.with_links("reference/other.md", "# Other\n") == "# Other\n"
