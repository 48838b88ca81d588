"""The operations on API keys, as calls."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from antiphon.client.calls import Call, as_params, decoded, given, path_part, reading
from antiphon.client.pages import LARGEST_PAGE, Listing
from antiphon.client.results import ApiKey, CreatedKey

KEYS = "/v1/keys"

_key = msgspec.json.Decoder(ApiKey)


def create(
    *,
    name: str,
    scopes: Sequence[str],
    tenant: str | None = None,
    expires_at: datetime | None = None,
    expires_in_seconds: int | None = None,
    limits: Mapping[str, int] | None = None,
    timeout: float | None = None,
) -> Call[CreatedKey]:
    """Create an API key; its secret is in this answer and nowhere else. The scope `admin` is needed.

    The request is not repeated after an error: look into the list before you create it again.
    """
    return Call(
        method="POST",
        path=KEYS,
        body={
            "name": name,
            "scopes": list(scopes),
            **given(
                tenant=tenant, expires_at=expires_at, expires_in_seconds=expires_in_seconds, limits=limits
            ),
        },
        parse=reading(CreatedKey),
        repeatable=False,
        timeout_seconds=timeout,
    )


def get(key_id: str, *, timeout: float | None = None) -> Call[ApiKey]:
    """Return an API key, without its secret."""
    return Call(
        method="GET", path=f"{KEYS}/{path_part(key_id)}", parse=reading(ApiKey), timeout_seconds=timeout
    )


def list_keys(
    *,
    tenant: str | None = None,
    limit: int | None = None,
    page_size: int = LARGEST_PAGE,
    timeout: float | None = None,
) -> Listing[ApiKey]:
    """Iterate over the API keys, newest first, without their secrets."""
    return Listing(
        path=KEYS,
        noun="keys",
        read=lambda raw: decoded(_key, raw),
        params=as_params(given(tenant=tenant)),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )


def rotate(
    key_id: str, *, overlap_seconds: int | None = None, timeout: float | None = None
) -> Call[CreatedKey]:
    """Replace a key by one with another secret; the old one is valid for `overlap_seconds` more.

    The request is not repeated after an error.
    """
    return Call(
        method="POST",
        path=f"{KEYS}/{path_part(key_id)}/rotate",
        body=given(overlap_seconds=overlap_seconds),
        parse=reading(CreatedKey),
        repeatable=False,
        timeout_seconds=timeout,
    )


def revoke(key_id: str, *, force: bool | None = None, timeout: float | None = None) -> Call[ApiKey]:
    """Revoke a key: its requests are refused and its streams end. Revoking it again changes nothing.

    With `force` also the tenant's last key with the scope `admin`.
    """
    return Call(
        method="POST",
        path=f"{KEYS}/{path_part(key_id)}/revoke",
        body=given(force=force),
        parse=reading(ApiKey),
        timeout_seconds=timeout,
    )
