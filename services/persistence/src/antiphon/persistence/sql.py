"""Load SQL from files, and make values that Postgres can store.

Where SQL lives: a statement of a few lines is a constant of the module that runs it; functions and long
statements are .sql files beside that module, loaded by `read_sql`.
"""

from datetime import UTC, datetime
from importlib.resources import files

from antiphon.contracts.views import indexed

FIRST, LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)


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
    return indexed(value)


def indexable_or_none(value: str | None) -> str | None:
    """Return `indexable(value)`, or None for None."""
    return None if value is None else indexable(value)


def instant(value: datetime) -> datetime:
    """Return a time that Postgres can store and return; those of the years 1 and 9999 move to the next."""
    # UTC cannot express all of these years, and asyncpg takes their first and last instant for infinity
    if 1 < value.year < 9999:
        return value
    return FIRST if value.year == 1 else LAST
