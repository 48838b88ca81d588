"""The JSON Schema of flow files: `python -m antiphon.agent_worker.flow.schema > flows/flow.schema.json`."""

import json
import sys
from typing import Any

from antiphon.agent_worker.flow.model import Flow


def flow_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a flow file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Flow.model_json_schema(),
        "title": "Antiphon flow",
    }


def render_schema() -> str:
    """Return the text of flows/flow.schema.json."""
    return json.dumps(flow_json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_schema())
