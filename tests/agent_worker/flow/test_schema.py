"""The committed JSON Schema is the one that the code enforces."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from antiphon.agent_worker.flow.schema import flow_json_schema, render_schema

FLOWS = Path(__file__).parents[3] / "flows"


def _as_json(text: str) -> Any:
    # PyYAML follows YAML 1.1, where a plain `yes` is a boolean: read every scalar as a string
    return yaml.load(text, Loader=yaml.BaseLoader)


def test_committed_schema_is_current() -> None:
    assert (FLOWS / "flow.schema.json").read_text() == render_schema(), (
        "run: python -m antiphon.agent_worker.flow.schema > flows/flow.schema.json"
    )


def test_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(flow_json_schema())


def test_booking_flow_refers_to_the_schema() -> None:
    first = (FLOWS / "booking.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=flow.schema.json"


def test_schema_accepts_a_list_and_a_single_name() -> None:
    rule = json.loads(render_schema())["$defs"]["Rule"]["properties"]
    for hear in ("yes", ["yes", "no"]):
        jsonschema.validate(hear, rule["hear"])


def test_schema_rejects_unknown_fields() -> None:
    flow = _as_json("id: x\nlangauge: en\n")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(flow, flow_json_schema())
