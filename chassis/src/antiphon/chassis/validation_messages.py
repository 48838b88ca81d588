"""What is wrong with a value, in words for users, by the type of pydantic's error.

A message goes on after the name of the field, as in `limit: takes at most 200`.
"""

import re
from collections.abc import Mapping
from typing import Any

from antiphon.contracts.api_keys import KEY_ID_PATTERN, KEY_NAME_PATTERN
from antiphon.contracts.ids import SESSION_ID_PATTERN, TENANT_PATTERN

NAME_PATTERN = r"^[^\x00-\x1f\x7f]+$"
LANGUAGE_PATTERN = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"

INSTANT = "takes a time with an offset as in RFC 3339, for example 2026-11-21T09:30:00Z"
OBJECT, LIST, TEXT = "takes an object", "takes a list", "takes a text"
INTEGER, NUMBER, BOOLEAN = "takes an integer", "takes a number", "takes true or false"
PRINTABLE = "takes no control characters"

_PATTERNS = {
    SESSION_ID_PATTERN: "takes the id of a session: ses_ and 26 lowercase letters and digits",
    KEY_ID_PATTERN: "takes the id of an API key: key_ and 26 lowercase letters and digits",
    KEY_NAME_PATTERN: "takes 1 to 100 characters, without control characters",
    TENANT_PATTERN: "takes 1 to 63 lowercase letters, digits and hyphens, and does not begin with a hyphen",
    NAME_PATTERN: PRINTABLE,
    LANGUAGE_PATTERN: "takes a language as in BCP 47, for example en or en-GB",
}
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "int_parsing": INTEGER,
    "int_type": INTEGER,
    "int_from_float": INTEGER,
    "int_parsing_size": "takes an integer of fewer digits",
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "finite_number": NUMBER,
    "bool_parsing": BOOLEAN,
    "bool_type": BOOLEAN,
    "string_type": TEXT,
    "string_unicode": "takes a text in UTF-8",
    "list_type": LIST,
    "dict_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "greater_than": "takes more than {gt}",
    "greater_than_equal": "takes at least {ge}",
    "less_than": "takes less than {lt}",
    "less_than_equal": "takes at most {le}",
    "string_too_short": "takes at least {min_length} characters",
    "string_too_long": "takes at most {max_length} characters",
    "too_short": "takes at least {min_length} members",
    "too_long": "takes at most {max_length} members",
    "literal_error": "takes {expected}",
    "enum": "takes {expected}",
    "timezone_aware": INSTANT,
}
_one = re.compile(r"^(takes at (?:least|most) 1) (character|member)s$")


def message_of(error: Mapping[str, Any]) -> str:
    """Return the message of an error as pydantic lists it."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return _PATTERNS.get(pattern, f"does not match {pattern}")
    if kind in _MESSAGES:
        return _one.sub(r"\1 \2", _MESSAGES[kind].format_map(context))
    if kind.startswith("datetime_"):
        return INSTANT
    text: str = error["msg"]
    if text.startswith("Value error, "):  # of a validator of ours
        return text.removeprefix("Value error, ")
    return re.sub("^Input should be", "takes", text)
