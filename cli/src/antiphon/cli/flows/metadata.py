"""`--metadata` and `--variable`: what a session is given, as arguments of a command."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

Metadata = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata",
        help="Metadata of the session, as name=Ada or address.city=Ulm; may be repeated.",
        metavar="NAME=VALUE",
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--variable", help="A variable of the session; may be repeated.", metavar="NAME=VALUE"),
]


def given(metadata: Sequence[str] | None, variable: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Return `metadata` and `variables` of a session.

    Raises typer.BadParameter.
    """
    try:
        return {"metadata": metadata_of(metadata or ()), "variables": metadata_of(variable or ())}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def metadata_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the metadata that `name=value` arguments give; a dotted name is a part of a part.

    Raises ValueError.
    """
    metadata: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        *outer, last = name.removeprefix("metadata.").removeprefix("variables.").split(".")
        if not equals or not all((*outer, last)):
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        inner: Any = metadata
        for part in outer:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
        fits = isinstance(inner, dict) and not isinstance(inner.get(last), dict)
        if not fits:
            raise ValueError(f"{pair!r}: another one gives a part of it")
        inner[last] = value
    return metadata
