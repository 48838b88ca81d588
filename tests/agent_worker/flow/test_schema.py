"""The committed JSON Schema is the one that the code enforces."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.document import parse_yaml
from antiphon.agent_worker.flow.reference import render_reference
from antiphon.agent_worker.flow.schema import flow_json_schema

FLOWS = Path(__file__).parents[3] / "flows"


def _as_json(text: str) -> Any:
    # PyYAML follows YAML 1.1, where a plain `yes` is a boolean: read every scalar as a string
    return yaml.load(text, Loader=yaml.BaseLoader)


def test_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(flow_json_schema())


@pytest.mark.parametrize("file", sorted(FLOWS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_flow_matches_the_schema_that_it_refers_to(file: Path) -> None:
    text = file.read_text()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=flow.schema.json"
    jsonschema.validate(parse_yaml(text, file=str(file)).data, flow_json_schema())


@pytest.mark.parametrize(
    "part",
    [
        {"turns": {"interruption": False}},
        {"turns": {"interruption": {"min_words": 2}}},
        {"variables": {"metadata.name": "there", "metadata.order": {"required": True}}},
        {"dtmf": {"keys": {"1": "yes please", "2": {"end": True}}}},
        {"voice": {"tts": {"use": "offline", "fallbacks": ["offline"]}}},
    ],
    ids=str,
)
def test_schema_accepts_what_the_loader_does(part: dict[str, Any], small: str) -> None:
    flow = parse_yaml(small, file="small").data | part
    Flow.model_validate(flow)
    jsonschema.validate(flow, flow_json_schema())


def test_committed_reference_is_current() -> None:
    assert (FLOWS.parent / "docs" / "reference" / "flow-file.md").read_text() == render_reference(), (
        "run: python -m antiphon.agent_worker.flow.reference > docs/reference/flow-file.md"
    )


def test_schema_accepts_a_list_and_a_single_name() -> None:
    rule = flow_json_schema()["$defs"]["Rule"]["properties"]
    for hear in ("yes", ["yes", "no"]):
        jsonschema.validate(hear, rule["hear"])


def test_schema_rejects_unknown_fields() -> None:
    flow = _as_json("id: x\nlangauge: en\n")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(flow, flow_json_schema())
