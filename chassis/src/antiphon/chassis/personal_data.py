"""What is personal in spans and logs: one rule for both.

Personal is a name with the part `pii`, as `pii.text` or `lk.pii.user_transcript`; what OpenTelemetry's
conventions and LiveKit say of prompts, answers, queries and people; and messages of errors that are not
about servers.
"""

import re
from collections.abc import Mapping
from typing import Any

MARK = "pii"
FIELD_PREFIX = f"{MARK}_"  # of a log field, as keyword arguments have no dots: it is shown as `pii.…`
HIDDEN = "(hidden)"

# by the names of OpenTelemetry's semantic conventions, which have no room for the mark
_CONVENTIONS = frozenset(
    {
        "client.address",
        "db.query.text",
        "enduser.id",
        "exception.message",
        "exception.stacktrace",
        "gen_ai.evaluation.explanation",
        "gen_ai.input.messages",
        "gen_ai.memory.query.text",
        "gen_ai.memory.records",
        "gen_ai.output.messages",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.tool.definitions",
        "gen_ai.tool.description",
        "lk.rpc.caller_identity",  # of LiveKit Agents, which marks an identity elsewhere
        "lk.rpc.destination_identity",
        "url.full",
        "url.query",
        "user.id",
        "user_agent.original",
    }
)
_CONVENTION_PREFIXES = ("gen_ai.prompt.variable", "db.query.parameter", "http.request.header")
# of LiveKit's spans: attributes of a caller by telephone, among them any header of the INVITE
_SIP = "lk.sip."
_SIP_IDS = frozenset(
    f"{_SIP}{name}"
    for name in ("callID", "callIDFull", "callStatus", "hostname", "ruleID", "trunkID", "trunkPhoneNumber")
)
# of span events whose attributes are the text
_EVENTS = (
    "gen_ai.system",
    "gen_ai.user",
    "gen_ai.assistant",
    "gen_ai.tool",
    "gen_ai.choice",
    "gen_ai.client",
)
# the texts of their errors name servers, settings and ids; those of other errors may quote a caller
_SAFE_ERRORS = ("antiphon", "asyncpg", "nats", "uvicorn", "websockets")
_ROW_VALUES = "\nDETAIL:"  # of an error of Postgres; what follows quotes the row
# other errors of Postgres and of its driver quote the value that they refuse
_VALUE = re.compile(
    r"""(?s)(invalid input for query argument \$\d+: ).*|(invalid input syntax for [\w ]+: ).*|"""
    r"""(value )".*"( is out of range for type [\w ]+)"""
)
_OF_SYSTEM = ("builtins", "socket", "ssl")  # libraries have errors of their own that are OSErrors


def is_personal(name: str) -> bool:
    """Tell whether the attribute or log field of this name is personal."""
    if MARK in name and (name.startswith(FIELD_PREFIX) or MARK in name.split(".")):
        return True
    if name.startswith(_SIP):
        return name not in _SIP_IDS
    return name in _CONVENTIONS or name.startswith(_CONVENTION_PREFIXES)


def is_personal_event(name: str) -> bool:
    """Tell whether a span event of this name is a message of the conversation."""
    return name.startswith(_EVENTS)


def without_personal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that are not personal."""
    return {name: value for name, value in attributes.items() if not is_personal(name)}


def marked(name: str) -> str:
    """Return the name under which a log field is shown: `pii_text` as `pii.text`."""
    return f"{MARK}.{name[len(FIELD_PREFIX) :]}" if name.startswith(FIELD_PREFIX) else name


def without_row_values(text: str) -> str:
    """Return the text of an error without the values that Postgres quotes."""
    text = text.split(_ROW_VALUES, 1)[0]
    return _VALUE.sub(_hide_value, text)


def may_show(error: BaseException) -> bool:
    """Tell whether the message of an error is about servers, settings and ids only."""
    module = type(error).__module__.split(".")[0]
    if isinstance(error, OSError) and module in _OF_SYSTEM:
        return error.errno is not None or not error.args  # else anybody's sentence
    return module in _SAFE_ERRORS


def shown(error: BaseException) -> str:
    """Return an error for a log line: without its message, if that may quote a caller."""
    return repr(error) if may_show(error) else f"{type(error).__name__}({HIDDEN})"


def _hide_value(found: re.Match[str]) -> str:
    query, syntax, before, after = found.groups(default="")
    return f"{query or syntax or before}{HIDDEN}{after}"
