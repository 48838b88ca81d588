"""The operation on audit records, as a list."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from antiphon.client.calls import as_params, decoded, given
from antiphon.client.pages import LARGEST_PAGE, Listing
from antiphon.client.results import AuditEntry

_entry = msgspec.json.Decoder(AuditEntry)


def list_audit(
    *,
    tenant: str | None = None,
    kind: Sequence[str] | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    page_size: int = LARGEST_PAGE,
    timeout: float | None = None,
) -> Listing[AuditEntry]:
    """Iterate over who changed API keys and flows, and what was erased, oldest first, of the last 400 days.

    The scope `admin` is needed; an operator's key sees every tenant.
    """
    return Listing(
        path="/v1/audit",
        noun="audit",
        read=lambda raw: decoded(_entry, raw),
        params=as_params(given(tenant=tenant, kind=kind, actor=actor, since=since, until=until)),
        limit=limit,
        page_size=page_size,
        timeout_seconds=timeout,
    )
