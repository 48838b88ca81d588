"""Golden examples decode, match their schema, and re-encode unchanged."""

import json
from pathlib import Path

import jsonschema
import pytest

from antiphon.contracts import envelope
from antiphon.contracts.generate import SCHEMAS
from antiphon.contracts.registry import BY_TYPE, EVENTS, open_event
from antiphon.contracts.schemas import envelope_schema, event_schema
from antiphon.contracts.session import fold

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"
FILES = sorted(EXAMPLES.glob("*/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_example_decodes_and_matches_its_schema(path: Path) -> None:
    raw = json.loads(path.read_text())
    decoded = envelope.decode(path.read_bytes())
    event = open_event(decoded)

    assert path.parent.name == f"{decoded.type}.v{decoded.version}"
    jsonschema.validate(raw, envelope_schema())
    jsonschema.validate(raw["data"], json.loads((SCHEMAS / f"{path.parent.name}.schema.json").read_text()))
    encoded = json.loads(envelope.encode(decoded))
    assert encoded == raw
    if decoded.version == event.VERSION:  # else it was upcast
        assert raw["data"].items() <= json.loads(envelope._encoder.encode(event)).items()


def test_every_version_has_examples() -> None:
    versions = {f"{event.TYPE}.v{number}" for event in EVENTS for number in range(1, event.VERSION + 1)}

    assert versions == {path.parent.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_example_folds(path: Path) -> None:
    decoded = envelope.decode(path.read_bytes())

    assert fold(decoded.subject, decoded.tenant, [decoded]).skipped == 0


def test_schema_rejects_an_invalid_body() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"turn": 0, "agent_id": "host"}, event_schema(BY_TYPE["turn.saved"]))
