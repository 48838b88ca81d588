"""The names and options of the providers in the JSON Schema of flow files, so that editors complete them.

The schema of a flow has one `Provider` for all kinds. Here each kind gets one of its own, which lists the
names and, for each name, the options with their types. Other names are allowed: an editor does not know which
packages are installed, `antiphon flow check` does.
"""

from copy import deepcopy
from typing import Any

from antiphon.agent_worker.flow.schema import flow_json_schema
from antiphon.agent_worker.flow.voice import KINDS
from antiphon.agent_worker.providers.entry import ProviderEntry
from antiphon.agent_worker.providers.options import schemas_of
from antiphon.agent_worker.providers.table import Providers

Schema = dict[str, Any]


def with_providers(providers: Providers) -> Schema:
    """Return the JSON Schema of a flow file, with the providers of a table."""
    schema = deepcopy(flow_json_schema())
    voice, definitions = schema["$defs"]["Voice"]["properties"], schema["$defs"]
    for kind in KINDS:
        entries = [entry for (of, _), entry in providers.entries.items() if of == kind]
        names = {"description": _described(entries), "anyOf": [_names(entries), {"type": "string"}]}
        definitions[kind] = {"anyOf": [{"$ref": f"#/$defs/{kind}_provider"}, names]}
        definitions[f"{kind}_provider"] = _provider(kind, entries, definitions["Provider"])
        voice[kind] = _pointing(voice[kind], f"#/$defs/{kind}")
    return schema


def _pointing(field: Schema, reference: str) -> Schema:
    """Return a field of a voice that refers to the providers of its kind; it may still be left empty."""
    about: Schema = {name: field[name] for name in ("description", "default") if name in field}
    return {"anyOf": [{"$ref": reference}, {"type": "null"}], **about}


def _provider(kind: str, entries: list[ProviderEntry], of_model: Schema) -> Schema:
    """Return the schema of a provider with options: which it has depends on its name."""
    properties = dict(of_model["properties"])
    properties["use"] = {**properties["use"], "anyOf": [_names(entries), {"type": "string"}]}
    properties["fallbacks"] = {**properties["fallbacks"], "items": {"$ref": f"#/$defs/{kind}"}}
    return {
        **of_model,
        "properties": properties,
        "allOf": [
            {
                "if": {"properties": {"use": {"const": entry.name}}, "required": ["use"]},
                "then": {
                    "description": entry.summary,
                    "properties": dict.fromkeys(properties, True) | dict(schemas_of(entry)),
                    "additionalProperties": False,
                },
            }
            for entry in entries
        ],
    }


def _names(entries: list[ProviderEntry]) -> Schema:
    return {"enum": [entry.name for entry in entries]}


def _described(entries: list[ProviderEntry]) -> str:
    return "\n".join(f"{entry.name}: {entry.summary}" for entry in entries)
