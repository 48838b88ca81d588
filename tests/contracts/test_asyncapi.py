"""The AsyncAPI document is valid 3.0 and contains every event once."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from antiphon.contracts.asyncapi import PRODUCERS, document
from antiphon.contracts.event import Family
from antiphon.contracts.registry import EVENTS

# Apache-2.0, from the package @asyncapi/specs 6.11.1, minified.
SPECIFICATION = json.loads((Path(__file__).parent / "asyncapi-3.0.0.schema.json").read_text())


def test_document_is_valid_asyncapi() -> None:
    jsonschema.validate(document("1.0.0"), SPECIFICATION)


def test_specification_rejects_a_broken_document() -> None:
    broken = copy.deepcopy(document("1.0.0"))
    broken["operations"]["persistence.announces"]["action"] = "shout"

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SPECIFICATION)


def test_every_event_is_in_the_channel_of_its_family() -> None:
    channels = document("1.0.0")["channels"]

    for event in EVENTS:
        assert event.TYPE in channels[event.FAMILY]["messages"]


def test_every_reference_resolves() -> None:
    root = document("1.0.0")

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [ref for value in node.values() for ref in references(value)]
        return [ref for item in node for ref in references(item)] if isinstance(node, list) else []

    for ref in references(root):
        target = root
        for step in ref.removeprefix("#/").split("/"):
            target = target[step]


def test_every_family_has_a_producer() -> None:
    assert set(PRODUCERS) == set(Family)
