"""Periods of whole days in UTC, from query parameters."""

import re
from datetime import date, timedelta
from typing import Annotated, Any, NamedTuple

from fastapi import Query
from pydantic import BeforeValidator, Field

from antiphon.session_api.instants import FIRST_YEAR, LAST_YEAR
from antiphon.session_api.problems import invalid

DEFAULT_DAYS, LONGEST_DAYS = 30, 366

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def parse_day(value: Any) -> date:
    """Return a day.

    Raises ValueError.
    """
    text = str(value)
    if _DAY.fullmatch(text) is None:
        raise ValueError("takes a day as YYYY-MM-DD, for example 2026-11-21")
    day = date.fromisoformat(text)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"takes a year from {FIRST_YEAR:04} to {LAST_YEAR}")
    return day


Day = Annotated[
    date,
    BeforeValidator(parse_day),
    Field(json_schema_extra={"format": "date"}, examples=["2026-11-21"]),
]
From = Annotated[
    Day | None,
    Query(
        alias="from",
        description=f"the first day (UTC); {DEFAULT_DAYS} days up to `to` by default, at most {LONGEST_DAYS}",
    ),
]
To = Annotated[Day | None, Query(alias="to", description="the last day, which is included; today by default")]


class Period(NamedTuple):
    """The days from the first to the last, both included."""

    first: date
    last: date


def period(first: date | None, last: date | None, today: date) -> Period:
    """Return the days that a request asks for.

    Raises Problem 422 for a period that ends before it begins, or is too long.
    """
    if last is None:
        last = today if first is None else max(today, first)
    if first is None:
        first = max(last - timedelta(DEFAULT_DAYS - 1), date(FIRST_YEAR, 1, 1))
    if first > last:
        raise invalid("from", "query", "is later than to", "wrong_order")
    if (last - first).days >= LONGEST_DAYS:
        message = (
            f"takes at most {LONGEST_DAYS} days up to `to`, which is {last.isoformat()}: "
            "pass both, and ask for several periods"
        )
        raise invalid("from", "query", message, "period_too_long")
    return Period(first, last)
