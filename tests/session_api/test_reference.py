"""docs/reference/http-api.md is made from the OpenAPI document, and nothing in it is stale."""

import re
from pathlib import Path

import pytest

from antiphon.session_api.problem_types import PROBLEMS
from antiphon.session_api.reference import main, markdown, openapi_document

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


def test_the_page_is_what_the_code_says() -> None:
    assert main(["--check", str(PAGE)]) == 0


def test_a_stale_page_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = tmp_path / "http-api.md"
    stale.write_text(PAGE.read_text().replace("listSessions", "listCalls"))

    assert main(["--check", str(stale)]) == 1
    assert "python -m antiphon.session_api.reference" in capsys.readouterr().err


def test_another_argument_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 2
    assert "--check PATH" in capsys.readouterr().err


def test_each_route_has_its_section_with_a_request() -> None:
    document = openapi_document()
    page = markdown(document)

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            section = page.partition(f"\n## {operation['operationId']}\n")[2].partition("\n## ")[0]
            assert f"`{method.upper()} {path}`" in section
            assert re.search(r"```sh\ncurl ", section)
            for parameter in operation.get("parameters", ()):
                assert f"| `{parameter['name']}" in section


def test_each_problem_type_is_in_the_table() -> None:
    page = PAGE.read_text()

    for name in PROBLEMS:
        assert re.search(rf"^\| [\d, ]+ \| `{name}` \|", page, re.MULTILINE)


def test_each_object_of_an_answer_has_its_fields() -> None:
    document = openapi_document()
    page = markdown(document)
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)

    assert len({heading.lower() for heading in headings}) == len(headings)  # their anchors differ
    for name in re.findall(r"\]\(#(\w+)\)", page):
        assert name in {re.sub(r"\W", "-", heading.lower()) for heading in headings}
    for name, schema in document["components"]["schemas"].items():
        if f"\n### {name}\n" in page:
            section = page.partition(f"\n### {name}\n")[2].partition("\n#")[0]
            assert all(f"| `{field}` |" in section for field in schema["properties"])
    assert {"Session", "TurnView", "CreateResponse", "ProblemDocument"} <= set(headings)
    assert "SessionRequestedEvent" not in headings  # events.md has it
