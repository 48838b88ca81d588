"""Answer templates: `{name}` is replaced by a value, `{name:spelled}` is read letter by letter."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

_SPELLED = "spelled"


class InvalidTemplate(ValueError):
    """The text is not a valid template."""


class _AnswerFormatter(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return " ".join(str(value)) if format_spec == _SPELLED else str(value)


def placeholders(text: str) -> list[str]:
    """Return the names used in a template. Raises InvalidTemplate."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidTemplate(f"not a valid template: {error}") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec not in ("", _SPELLED) or conversion):
            raise InvalidTemplate(f"only {{name}} and {{name:{_SPELLED}}} are supported, not {{{name}}}")
    return [name for _, name, _, _ in parts if name is not None]


def render(text: str, values: Mapping[str, Any]) -> str:
    """Replace the placeholders of a template by values."""
    return _AnswerFormatter().vformat(text, (), values)
