"""Load SQL from files, and make texts that Postgres can store.

Where SQL lives: a statement of a few lines is a constant of the module that runs it; functions and long
statements are .sql files beside that module, loaded by `read_sql`.
"""

from importlib.resources import files

INDEXED_LENGTH = 256  # characters: an index entry has an upper bound


def read_sql(package: str, name: str) -> str:
    """Return the text of a .sql file of a package."""
    return files(package).joinpath(name).read_text()


def storable(value: str) -> str:
    """Return a text without NUL, which a text column cannot hold; the log keeps the original."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def storable_or_none(value: str | None) -> str | None:
    """Return `storable(value)`, or None for None."""
    return None if value is None else storable(value)


def indexable(value: str) -> str:
    """Return a storable text cut to the length that an index accepts."""
    return storable(value)[:INDEXED_LENGTH]
