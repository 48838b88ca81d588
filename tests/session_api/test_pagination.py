"""Cursors: opaque, versioned, checked; one that this list did not give is 422 and never a fault of ours."""

import base64
import json
import zlib
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from antiphon.session_api.pagination import (
    PageKey,
    decode_page_cursor,
    encode_name_cursor,
    encode_number_cursor,
    encode_page_cursor,
)
from antiphon.session_api.problems import Problem

SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"
OTHER = "ses_01m7yq1we0eqq9xvayxnfetqqe"
KEY = PageKey(datetime(2026, 11, 21, 9, 30, tzinfo=UTC), SESSION)


def forged(*key: Any) -> str:
    """Return a cursor with a right version and checksum, and any key."""
    raw = json.dumps(key).encode()
    return base64.urlsafe_b64encode(b"\x01" + zlib.crc32(raw).to_bytes(4, "big") + raw).rstrip(b"=").decode()


def before_versions(created_at: str, session_id: str = SESSION) -> str:
    """Return a cursor as they were before they had a version."""
    raw = json.dumps({"created_at": created_at, "session_id": session_id}).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


WRONG = [
    "",
    "?",
    "\0",
    "AQ",
    "é",
    "bm90IGEgY3Vyc29y",
    "x" * 513,
    encode_page_cursor(KEY)[:-1],
    encode_page_cursor(KEY).swapcase(),
    encode_number_cursor("turns", 3),
    encode_name_cursor("flows", "booking"),
    before_versions("2026-11-21T09:30:00Z"),
    before_versions("0001-01-01T00:00:00+14:00"),
    before_versions("9999-12-31T23:59:59-14:00"),
    before_versions("2026-11-21T09:30:00Z", "nul \0"),
    forged("sessions", "0001-01-01T00:00:00+14:00", SESSION),
    forged("sessions", "9999-12-31T23:59:59-14:00", SESSION),
    forged("sessions", "2026-11-21T09:30:00", SESSION),
    forged("sessions", "2026-11-21T09:30:00Z", "nul \0"),
    forged("sessions", 7, SESSION),
    forged("sessions"),
    forged("sessions", None, None),
    forged({"a": 1}),
]


def test_a_cursor_is_what_it_was_made_from() -> None:
    assert decode_page_cursor(encode_page_cursor(KEY)) == KEY


@pytest.mark.parametrize("cursor", [cursor for cursor in WRONG if 0 < len(cursor) <= 512])
def test_a_cursor_of_elsewhere_is_refused(cursor: str) -> None:
    with pytest.raises(Problem) as refused:
        decode_page_cursor(cursor)

    assert refused.value.status_code == 422


@pytest.mark.parametrize("path", ["/v1/sessions", f"/v1/sessions/{SESSION}/turns", "/v1/flows"])
async def test_every_list_refuses_a_wrong_cursor(path: str, rejecting: httpx.AsyncClient) -> None:
    wrong = [cursor for cursor in WRONG if cursor != encode_name_cursor("flows", "booking")]
    for cursor in [*wrong, encode_number_cursor(f"turns:{OTHER}", 1), forged("turns", 2**40)]:
        response = await rejecting.get(path, params={"cursor": cursor})

        assert response.status_code == 422, (cursor, response.text)
        assert response.json()["errors"][0]["field"] == "cursor"


@pytest.mark.parametrize("number", [-1, 2**31, 2**80])
async def test_a_sequence_that_postgres_cannot_hold_is_refused(
    number: int, rejecting: httpx.AsyncClient
) -> None:
    cursor = forged(f"events:{SESSION}", number)

    response = await rejecting.get(f"/v1/sessions/{SESSION}/events", params={"cursor": cursor})

    assert response.status_code == 422
