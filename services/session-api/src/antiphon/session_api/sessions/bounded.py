"""Pages of rows that are bounded in bytes as well as in number; the first row is always one of them."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import asyncpg

WHOLE_ROW = "row_to_json(found)::text"

# Postgres measures the rows, as text, and sends those that fit: `page_bytes_before` is the size of the ones
# before. A window without an order keeps that of the statement.
BOUNDED = """
select *
from (
    select
        found.*,
        count(*) over () as page_found,
        coalesce(
            sum(octet_length({measured})) over (rows between unbounded preceding and 1 preceding), 0
        ) as page_bytes_before
    from ({statement}) as found
) as page
where page_bytes_before < ${argument}
"""

T = TypeVar("T")


class Listed(NamedTuple, Generic[T]):
    """The items of a page, and whether there are more after them."""

    items: list[T]
    more: bool


def bounded(statement: str, measured: str, argument: int) -> str:
    """Return a statement that cuts the rows of another one; this argument of it is the limit in bytes.

    `measured` is the text of a row that counts.

    The other one asks for a row more than the page may have.
    """
    return BOUNDED.format(statement=statement, measured=measured, argument=argument)


def listed(rows: Sequence[asyncpg.Record], limit: int, item: Callable[[asyncpg.Record], T]) -> Listed[T]:
    """Return the rows of a bounded statement, at most `limit`."""
    shown = rows[:limit]
    return Listed([item(row) for row in shown], bool(rows) and rows[0]["page_found"] > len(shown))
