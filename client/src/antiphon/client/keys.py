"""The operations on API keys and flows, as calls."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from antiphon.client.calls import Call, decoded, given, path_part, reading
from antiphon.client.pages import LARGEST_PAGE, Listing
from antiphon.client.results import ApiKey, CreatedKey, Flow

KEYS = "/v1/keys"
FLOWS = "/v1/flows"

_key = msgspec.json.Decoder(ApiKey)
_flow = msgspec.json.Decoder(Flow)


def create(
    *,
    name: str,
    scopes: Sequence[str],
    tenant: str | None = None,
    expires_at: datetime | None = None,
    timeout: float | None = None,
) -> Call[CreatedKey]:
    """Create an API key; its secret is in this answer and nowhere else. The scope `admin` is needed.

    The request is not repeated after an error: look into the list before you create it again.
    """
    return Call(
        method="POST",
        path=KEYS,
        body={"name": name, "scopes": list(scopes), **given(tenant=tenant, expires_at=expires_at)},
        parse=reading(CreatedKey),
        repeatable=False,
        timeout_seconds=timeout,
    )


def list_keys(
    *, limit: int | None = None, page_size: int = LARGEST_PAGE, timeout: float | None = None
) -> Listing[ApiKey]:
    """Iterate over the API keys, without their secrets."""
    return Listing(
        path=KEYS,
        noun="keys",
        read=lambda raw: decoded(_key, raw),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def rotate(
    key_id: str, *, overlap_seconds: int | None = None, timeout: float | None = None
) -> Call[CreatedKey]:
    """Make a new secret; the old one is valid for `overlap_seconds` more. Not repeated after an error."""
    return Call(
        method="POST",
        path=f"{KEYS}/{path_part(key_id)}/rotate",
        body=given(overlap_seconds=overlap_seconds),
        parse=reading(CreatedKey),
        repeatable=False,
        timeout_seconds=timeout,
    )


def revoke(key_id: str, *, timeout: float | None = None) -> Call[ApiKey]:
    """Revoke a key: its requests are refused and its streams end. Revoking it again changes nothing."""
    return Call(
        method="POST",
        path=f"{KEYS}/{path_part(key_id)}/revoke",
        parse=reading(ApiKey),
        timeout_seconds=timeout,
    )


def list_flows(
    *, limit: int | None = None, page_size: int = LARGEST_PAGE, timeout: float | None = None
) -> Listing[Flow]:
    """Iterate over the newest revision of every flow."""
    return Listing(
        path=FLOWS,
        noun="flows",
        read=lambda raw: decoded(_flow, raw),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )
