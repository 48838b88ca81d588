"""The published schema is the one that the code enforces."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from antiphon.agent_worker.flow import flow_json_schema
from antiphon.agent_worker.flow.schema import render

FLOWS = Path(__file__).parents[3] / "flows"


def _as_json(text: str) -> Any:
    # quoted keys: this YAML reader is of version 1.1, where a plain `yes` is not a word
    return yaml.load(text, Loader=yaml.BaseLoader)


def test_the_committed_schema_is_fresh() -> None:
    assert (FLOWS / "flow.schema.json").read_text() == render(), (
        "run: python -m antiphon.agent_worker.flow.schema"
    )


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(flow_json_schema())


def test_the_booking_flow_names_its_schema() -> None:
    first = (FLOWS / "booking.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=flow.schema.json"


def test_the_schema_accepts_a_list_and_a_single_word_alike() -> None:
    rule = json.loads(render())["$defs"]["Rule"]["properties"]
    for hear in ("yes", ["yes", "no"]):
        jsonschema.validate(hear, rule["hear"])


def test_the_schema_refuses_a_field_that_does_not_exist() -> None:
    flow = _as_json("id: x\nlangauge: en\n")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(flow, flow_json_schema())
