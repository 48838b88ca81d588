"""What flows may use in this process: its providers, tools and secrets."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from antiphon.agent_worker.flow.check.catalog import Installed
from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.providers.table import PROVIDERS
from antiphon.agent_worker.tools.definition import check_definition
from antiphon.agent_worker.tools.python import load_function, parameters_of
from antiphon.agent_worker.tools.secrets import PREFIX
from antiphon.chassis.secret_files import secret_or_none


def parameters(definition: ToolDefinition, *, over_http: bool = False) -> Mapping[str, Any] | None:
    """Return the JSON Schema of a tool's arguments; None if only its server knows. Raises ToolProblem."""
    check_definition(definition, over_http=over_http)
    if definition.python is not None:
        return parameters_of(load_function(definition.python))
    if definition.http is not None:
        required = [name for name, schema in definition.arguments.items() if "default" not in schema]
        return {
            "type": "object",
            "properties": definition.arguments,
            "required": required,
            "additionalProperties": False,
        }
    return None


def has_secret(name: str) -> bool:
    """Return whether a secret is set and not empty: ANTIPHON_SECRET_<name>, or its file."""
    return secret_or_none(os.environ, f"{PREFIX}{name}") is not None


CATALOG = Installed(
    names=PROVIDERS.names(),
    vocabularies=PROVIDERS.vocabularies(),
    option_problems=PROVIDERS.option_problems,
    parameters=parameters,
    has_secret=has_secret,
)
# of flows that were published over HTTP
CATALOG_OVER_HTTP = replace(CATALOG, parameters=partial(parameters, over_http=True))
