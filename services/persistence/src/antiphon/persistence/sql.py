"""Load SQL from files, and make values that Postgres can store.

Where SQL lives: a statement of a few lines is a constant of the module that runs it; functions and long
statements are .sql files beside that module, loaded by `read_sql`.
"""

from datetime import UTC, datetime
from importlib.resources import files

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
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
    return storable(value[:INDEXED_LENGTH])


def indexable_or_none(value: str | None) -> str | None:
    """Return `indexable(value)`, or None for None."""
    return None if value is None else indexable(value)


def instant(value: datetime) -> datetime:
    """Return a time in UTC; in the first or last hours of the calendar, the nearest that UTC can express."""
    if value.tzinfo is UTC:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return FIRST if value.year == 1 else LAST
