"""Hints at the usual mistakes in YAML: what was written, and what to write."""

import re

_TRUE = frozenset({"yes", "on", "y", "Yes", "YES", "On", "ON", "True", "TRUE"})
_FALSE = frozenset({"no", "off", "n", "No", "NO", "Off", "OFF", "False", "FALSE"})
_KEY = re.compile(r"^\s*(?:- )?[^\s:#][^:#]*:\s+(?P<value>.+)$")
_ALIAS_AS_KEY = re.compile(r"^\s*(?:- )?([*&@`%!])[^\s:]*:(?:\s|$)")  # as * of a telephone


def as_boolean(given: object) -> bool | None:
    """Return what a word means that was meant as a boolean."""
    if not isinstance(given, str) or given not in _TRUE | _FALSE:
        return None
    return given in _TRUE


def boolean_hint(given: object) -> str | None:
    """Return what to write for a word that was meant as a boolean."""
    meant = as_boolean(given)
    if meant is None:
        return None
    return f"{given!r} is a text here: write {'true' if meant else 'false, or leave it out'}"


def text_hint(given: object) -> str | None:
    """Return what to write for a value that was meant as a text."""
    if given is None:
        return "is empty: write a text"
    if isinstance(given, bool | int | float):
        shown = str(given).lower() if isinstance(given, bool) else given
        return f'{shown} is not a text: write it in quotes, "{shown}"'
    return None


def yaml_hint(text: str, line: int) -> str:
    """Return a hint at why a line is not YAML, or nothing."""
    lines = text.splitlines()
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    if written[: len(written) - len(written.lstrip())].count("\t"):
        return "; indent with spaces, not with tabs"
    if key := _ALIAS_AS_KEY.match(written):
        return f"; a key that starts with {key[1]} needs quotes"
    found = _KEY.match(written)
    if written.startswith("---"):
        return "; a flow file is one document: remove this line and what follows"
    value = found["value"] if found else written.strip().removeprefix("- ")
    if value[:1] in ("'", '"', "|", ">"):
        return ""
    if value.startswith("{"):
        return "; a text that starts with { needs quotes"
    if value[:1] in ("*", "&", "@", "`", "%", "!", "["):
        return f"; a text that starts with {value[0]} needs quotes"
    if ": " in value or (found and value.endswith(":")):
        return "; a text with a colon and a space needs quotes"
    is_key = found or value.endswith(":")
    return "; is the line, or the one before it, indented as those beside it?" if is_key else ""
