"""Times in query parameters: RFC 3339 with an offset, in the years that Postgres and Python both express."""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from antiphon.session_api.problems import invalid

FIRST_YEAR, LAST_YEAR = 2, 9998  # an offset must not move a time out of the range of datetime

_RFC_3339 = re.compile(
    r"^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,6})\d*)?([Zz]|[+-]\d{2}:\d{2})$", re.ASCII
)
_SPACE_FOR_PLUS = re.compile(r" (\d{2}:\d{2})$", re.ASCII)


def parse_instant(value: Any) -> datetime:
    """Return a time with its offset; a plus sign that a client did not escape is accepted as a space.

    Raises ValueError.
    """
    if isinstance(value, datetime):
        return value
    found = _RFC_3339.fullmatch(_SPACE_FOR_PLUS.sub(r"+\1", str(value)))
    if found is None:
        raise ValueError("takes a time with an offset as in RFC 3339, for example 2026-11-21T09:30:00Z")
    date, time, fraction, offset = found.groups()
    digits = (fraction or "0").ljust(6, "0")
    parsed = datetime.fromisoformat(f"{date}T{time}.{digits}{'+00:00' if offset in 'Zz' else offset}")
    if not FIRST_YEAR <= parsed.year <= LAST_YEAR:
        raise ValueError(f"takes a year from {FIRST_YEAR:04} to {LAST_YEAR}")
    return parsed


Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-21T09:30:00Z"]),
]


def require_order(created_after: datetime | None, created_before: datetime | None) -> None:
    """Require a period that does not end before it begins.

    Raises Problem 422.
    """
    if created_after is not None and created_before is not None and created_after > created_before:
        raise invalid("created_after", "query", "is later than created_before", "wrong_order")
