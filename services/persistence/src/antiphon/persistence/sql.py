"""Load SQL from files, and make values that Postgres can store.

Where SQL lives: a statement of a few lines is a constant of the module that runs it; functions and long
statements are .sql files beside that module, loaded by `read_sql`.
"""

from importlib.resources import files

from antiphon.contracts.views import indexed, instant, storable

__all__ = ["indexable", "indexable_or_none", "instant", "read_sql", "storable", "storable_or_none"]


def read_sql(package: str, name: str) -> str:
    """Return the text of a .sql file of a package."""
    return files(package).joinpath(name).read_text()


def storable_or_none(value: str | None) -> str | None:
    """Return `storable(value)`, or None for None."""
    return None if value is None else storable(value)


def indexable(value: str) -> str:
    """Return a storable text cut to the length that an index accepts."""
    return indexed(value)


def indexable_or_none(value: str | None) -> str | None:
    """Return `indexable(value)`, or None for None."""
    return None if value is None else indexable(value)
