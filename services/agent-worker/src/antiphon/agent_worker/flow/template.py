"""Texts with variables: `{name}` is replaced by a value, `{name:spelled}` is read letter by letter."""

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

_SPELLED = "spelled"
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


class InvalidTemplate(ValueError):
    """The text is not a valid template."""


class _TemplateFormatter(Formatter):
    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name  # a dotted name is one name, not attributes

    def format_field(self, value: Any, format_spec: str) -> str:
        return " ".join(str(value)) if format_spec == _SPELLED else str(value)


def placeholders(text: str) -> list[str]:
    """Return the names used in a template. Raises InvalidTemplate."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidTemplate(f"not a valid template: {error}; write {{{{ for a brace") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not _DOTTED.fullmatch(name) or spec not in ("", _SPELLED) or conversion):
            given = f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}"
            raise InvalidTemplate(
                f"only {{name}} and {{name:{_SPELLED}}} are supported, not {{{given}}}; "
                "write {{ for a brace"
            )
    return [name for _, name, _, _ in parts if name is not None]


def render(text: str, values: Mapping[str, Any]) -> str:
    """Replace the placeholders of a template by values. Raises KeyError for one without a value."""
    return _TemplateFormatter().vformat(text, (), values)
