"""The JSON Schema of flow files. `make contracts` adds the providers, and writes flows/flow.schema.json."""

import json
from typing import Any

from antiphon.agent_worker.flow.model import Flow


def flow_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a flow file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Flow.model_json_schema(),
        "title": "Antiphon flow",
    }


def render_schema(schema: dict[str, Any]) -> str:
    """Return the text of a JSON Schema."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
