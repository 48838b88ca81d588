"""Texts with {names} in them; {name:spelled} is said letter by letter."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

_SPELLED = "spelled"


class InvalidTemplate(ValueError):
    """The text cannot be filled in."""


class _Spoken(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return " ".join(str(value)) if format_spec == _SPELLED else str(value)


def placeholders(text: str) -> list[str]:
    """Return the names that a text needs. Raises InvalidTemplate."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidTemplate(f"not a text with {{names}}: {error}") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec not in ("", _SPELLED) or conversion):
            raise InvalidTemplate(f"only {{name}} and {{name:{_SPELLED}}} can be filled in, not {{{name}}}")
    return [name for _, name, _, _ in parts if name is not None]


def fill(text: str, known: Mapping[str, Any]) -> str:
    """Put what is known into a text."""
    return _Spoken().vformat(text, (), known)
