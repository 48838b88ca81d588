"""The operations on figures of many sessions, as lists."""

from datetime import date
from typing import Any

import msgspec

from antiphon.client.calls import as_params, decoded, given
from antiphon.client.pages import LARGEST_PAGE, Listing
from antiphon.client.results import DailyFigures, UsageFigures

PATH = "/v1/analytics"

_daily = msgspec.json.Decoder(DailyFigures)
_usage = msgspec.json.Decoder(UsageFigures)


def daily(
    *,
    from_day: date | str | None = None,
    to_day: date | str | None = None,
    flow_id: str | None = None,
    limit: int | None = None,
    page_size: int = LARGEST_PAGE,
    timeout: float | None = None,
) -> Listing[DailyFigures]:
    """Iterate over the figures of each day and flow, by the day (UTC) on which sessions began.

    Both days are included; by default the 30 days up to today, at most 366.
    """
    return Listing(
        path=f"{PATH}/daily",
        noun="days",
        read=lambda raw: decoded(_daily, raw),
        params=as_params(_wanted(from_day, to_day, flow_id)),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def usage(
    *,
    from_day: date | str | None = None,
    to_day: date | str | None = None,
    flow_id: str | None = None,
    limit: int | None = None,
    page_size: int = LARGEST_PAGE,
    timeout: float | None = None,
) -> Listing[UsageFigures]:
    """Iterate over what each model was used for per day (UTC); the days are those of `daily`."""
    return Listing(
        path=f"{PATH}/usage",
        noun="usage",
        read=lambda raw: decoded(_usage, raw),
        params=as_params(_wanted(from_day, to_day, flow_id)),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def _wanted(from_day: date | str | None, to_day: date | str | None, flow_id: str | None) -> dict[str, Any]:
    return given(**{"from": from_day, "to": to_day, "flow_id": flow_id})
