"""SQL stands in .sql files, beside the code that runs it; texts go in as Postgres can hold them."""

from importlib.resources import files
from typing import overload

INDEXED_LENGTH = 256  # characters: an index entry has an upper bound


def read_sql(package: str, name: str) -> str:
    """Return the text of a .sql file of a package."""
    return files(package).joinpath(name).read_text()


@overload
def text(value: str) -> str: ...
@overload
def text(value: None) -> None: ...
def text(value: str | None) -> str | None:
    """Return a text without NUL, which no text column holds; the log keeps the original."""
    return value if value is None else value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def indexable(value: str) -> str:
    """Return as much of a text as may stand in an indexed column."""
    return text(value)[:INDEXED_LENGTH]
