"""The filters of a list of sessions, from query parameters."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from antiphon.contracts.events.session import CloseReason, FailureReason
from antiphon.contracts.views import MAX_TERM_LENGTH, MAX_TERMS, metadata_term
from antiphon.session_api.problems import invalid

MAX_METADATA_FILTERS = 10
METADATA_PARAMETER: dict[str, Any] = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "style": "deepObject",
    "explode": True,
    "description": (
        "sent as `metadata[order]=A-17`: the text, number or boolean of a top-level member; with several, "
        f"all must hold. Only the first {MAX_TERMS} members are searched, up to {MAX_TERM_LENGTH} characters "
        "of key and value"
    ),
    "schema": {
        "type": "object",
        "maxProperties": MAX_METADATA_FILTERS,
        "propertyNames": {"pattern": r"^[^\x00-\x1f\x7f=\[\]&]{1,64}$"},
        "additionalProperties": {"type": "string", "maxLength": 256, "pattern": r"^[^\x00-\x1f\x7f]*$"},
    },
    "example": {"order": "A-17"},
}


REASONS = [reason.value for reason in (*CloseReason, *FailureReason)]


def _known_reason(reason: str) -> str:
    if reason not in REASONS:
        raise ValueError(f"takes one of {', '.join(REASONS)}")
    return reason


Reason = Annotated[str, AfterValidator(_known_reason), Field(json_schema_extra={"enum": REASONS})]


def filter_terms(parameters: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the terms of the parameters `metadata[key]=value`; other parameters are left out.

    Raises Problem 422.
    """
    wanted = [
        (name, value) for name, value in parameters if name.startswith("metadata[") and name.endswith("]")
    ]
    if len(wanted) > MAX_METADATA_FILTERS:
        raise invalid("metadata", "query", f"takes at most {MAX_METADATA_FILTERS} members", "too_many")
    return tuple(_term(name, value) for name, value in wanted)


def _term(name: str, value: str) -> str:
    term = metadata_term(name.removeprefix("metadata[")[:-1], value)
    if term is None:
        message = (
            f"takes at most {MAX_TERM_LENGTH} characters of key and value, and no key with an equals sign"
        )
        raise invalid(name[:64], "query", message, "invalid_term")
    return term
