"""The OpenAPI document: complete, readable, and its examples are what its schemas say."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.session_api.conformance import Conformance

from antiphon.contracts.registry import EVENTS
from antiphon.session_api.problem_types import PROBLEMS
from antiphon.session_api.reference import openapi_document

ROOT = Path(__file__).parents[2]
SOURCES = ("services/session-api/src", "services/webhook-ingest/src", "chassis/src/antiphon/chassis/http")
MAKES_PROBLEMS = {"Problem", "_problem", "_unauthorized", "_retry"}
GOLDEN = sorted((ROOT / "contracts" / "examples").glob("*/*.json"))
NAMES = {
    "createSession", "listSessions", "getSession", "listTurns", "listEvents", "createToken", "endSession",
    "listFlows", "listProblems", "getProblem",
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document, as it is served."""
    return openapi_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


async def test_the_document_is_served(rejecting: httpx.AsyncClient, document: dict[str, Any]) -> None:
    served = (await rejecting.get("/openapi.json")).json()

    assert served["openapi"].startswith("3.1")
    assert served["paths"].keys() == document["paths"].keys()


def test_operations_have_readable_names_summaries_and_tags(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    tags = {tag["name"] for tag in document["tags"]}

    assert {operation["operationId"] for operation in found.values()} >= NAMES
    for name, operation in found.items():
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", operation["operationId"]), name
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name


def test_every_route_with_a_key_documents_its_problems(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if operation.get("security") == []:
            continue
        assert {"401", "403", "405", "422", "429", "500", "503"} <= operation["responses"].keys(), name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                examples = response["content"]["application/problem+json"]["examples"]
                assert examples.keys() <= PROBLEMS.keys(), name
                assert "X-Request-Id" in response["headers"], name


def test_parameters_are_described_and_never_null(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (name, parameter["name"])
            assert '"null"' not in json.dumps(parameter["schema"]), (name, parameter["name"])


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    for section, name in re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(document)):
        assert name in document["components"][section]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    conformance, checked = Conformance(document), 0
    for name, operation in operations(document):
        bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
        for media_type, content in ((m, c) for body in bodies for m, c in body.get("content", {}).items()):
            found = [example["value"] for example in content.get("examples", {}).values()]
            found += [content["example"]] if "example" in content else []
            for example in found:
                conformance.validate(example, content["schema"], f"{name}, {media_type}")
                checked += 1
        for parameter in operation.get("parameters", ()):
            for example in (parameter.get("example"), *parameter["schema"].get("examples", ())):
                if example is not None:
                    conformance.validate(example, parameter["schema"], f"{name}, {parameter['name']}")
    assert checked > 100


def test_every_successful_answer_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("2") and "content" in response:
                answer, *_ = response["content"].values()
                assert answer["example"] is not None, (name, status)


def test_every_event_type_has_a_schema_that_its_examples_fit(document: dict[str, Any]) -> None:
    conformance = Conformance(document)
    mapping = document["components"]["schemas"]["Event"]["discriminator"]["mapping"]

    assert mapping.keys() == {event.TYPE for event in EVENTS}
    for path in GOLDEN:
        event = json.loads(path.read_text())
        conformance.event({**event, "sequence": 1, "position": 1}, path.name)


def test_reasons_and_faults_are_enumerated(document: dict[str, Any]) -> None:
    session = document["components"]["schemas"]["Session"]["properties"]

    assert {"caller_left", "agent_lost", None} <= set(session["reason"]["enum"])
    assert set(session["fault"]["enum"]) == {"none", "caller", "agent", "platform", None}
    assert session["session_id"]["pattern"].startswith("^ses_")
    assert {"format": "date-time", "type": "string"} in session["created_at"]["anyOf"]


def raised_kinds() -> set[str]:
    """Return every text in the arguments of calls that make a problem, which has the form of a kind."""
    found = set()
    for source in SOURCES:
        for path in (ROOT / source).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called in {"Problem", "_problem", "_unauthorized", "_retry"}:
                    found |= {
                        inner.value
                        for argument in node.args
                        for inner in ast.walk(argument)
                        if isinstance(inner, ast.Constant)
                        and isinstance(inner.value, str)
                        and re.fullmatch(r"[a-z]+(-[a-z]+)+", inner.value)
                    }
    return found


def test_every_problem_that_is_raised_is_in_the_catalogue() -> None:
    kinds = raised_kinds()

    assert {"unknown-session", "livekit-refused", "missing-credentials", "bad-signature"} <= kinds
    assert kinds <= PROBLEMS.keys()


async def test_every_problem_type_is_explained(rejecting: httpx.AsyncClient) -> None:
    for name, problem in PROBLEMS.items():
        html = await rejecting.get(
            f"/problems/{name}", headers={"Accept": "text/html,*/*", "Authorization": ""}
        )
        explained = (await rejecting.get(f"/problems/{name}")).json()

        assert html.headers["content-type"].startswith("text/html")
        assert problem.uri in html.text
        assert (explained["type"], explained["title"]) == (problem.uri, problem.title)
        assert explained["happened"]
        assert explained["advice"]


async def test_problem_pages_fit_the_document(rejecting: httpx.AsyncClient, document: dict[str, Any]) -> None:
    conformance = Conformance(document)
    browser = {"Accept": "text/html"}

    for path in ("/problems", "/problems/unknown-session", "/problems/no-such", "/problems/<script>"):
        for headers in ({}, browser):
            conformance.check(await rejecting.get(path, headers=headers))
