"""Golden examples decode, match their schema, and re-encode unchanged."""

import json
from pathlib import Path

import jsonschema
import pytest

from antiphon.contracts import envelope
from antiphon.contracts.registry import BY_TYPE, open_event
from antiphon.contracts.schemas import envelope_schema, event_schema

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"
FILES = sorted(EXAMPLES.glob("*/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_example_decodes_and_matches_its_schema(path: Path) -> None:
    raw = json.loads(path.read_text())
    decoded = envelope.decode(path.read_bytes())
    event = open_event(decoded)

    assert path.parent.name == f"{decoded.type}.v{decoded.version}"
    jsonschema.validate(raw, envelope_schema())
    jsonschema.validate(raw["data"], event_schema(BY_TYPE[decoded.type]))
    encoded = json.loads(envelope.encode(decoded))
    assert encoded == raw
    assert raw["data"].items() <= json.loads(envelope._encoder.encode(event)).items()


def test_schema_rejects_an_invalid_body() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"turn": 0, "agent_id": "host"}, event_schema(BY_TYPE["turn.saved"]))
