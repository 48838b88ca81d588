"""SQL stands in .sql files, beside the code that runs it; texts go in as Postgres can hold them."""

from importlib.resources import files

INDEXED_LENGTH = 256  # characters: an index entry has an upper bound


def read_sql(package: str, name: str) -> str:
    """Return the text of a .sql file of a package."""
    return files(package).joinpath(name).read_text()


def text(value: str) -> str:
    """Return a text without NUL, which no text column holds; the log keeps the original."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def text_or_null(value: str | None) -> str | None:
    """Return what a text column that may be null holds of a text."""
    return None if value is None else text(value)


def indexable(value: str) -> str:
    """Return as much of a text as may stand in an indexed column."""
    return text(value)[:INDEXED_LENGTH]
